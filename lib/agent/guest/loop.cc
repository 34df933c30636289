#include "lib/agent/guest/loop.h"

#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

namespace ramet::guest {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

int timeout_ms(uint64_t deadline_ns) {
  if (deadline_ns == 0) {
    return -1;
  }
  const uint64_t now = now_ns();
  if (now >= deadline_ns) {
    return 0;
  }
  const uint64_t ms = (deadline_ns - now) / kNsPerMs + 1;
  return static_cast<int>(std::min<uint64_t>(ms, std::numeric_limits<int>::max()));
}

}  // namespace

uint64_t now_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

bool Loop::open() {
  epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  return epoll_.valid();
}

bool Loop::run_once(uint64_t deadline_ns) {
  std::array<epoll_event, 32> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                 timeout_ms(deadline_ns));
  if (count < 0) {
    return errno == EINTR;
  }
  for (int i = 0; i < count; ++i) {
    const epoll_event event = events[static_cast<size_t>(i)];
    const uint64_t id = event.data.u64;  // a copy: the structure is packed
    const auto entry = handlers_.find(id);
    if (entry != handlers_.end()) {
      const std::shared_ptr<Handler> handler = entry->second;  // it may stop its own watch
      (*handler)(event.events);
    }
  }
  return true;
}

bool Watch::start(Loop& loop, int fd, uint32_t events, Loop::Handler handler) {
  stop();
  loop_ = &loop;
  fd_ = fd;
  id_ = loop.next_id_++;
  loop.handlers_[id_] = std::make_shared<Loop::Handler>(std::move(handler));
  set_events(events);
  return events_ == events;
}

void Watch::set_events(uint32_t events) {
  if (loop_ == nullptr || events == events_) {
    return;
  }
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id_;
  const int operation = events == 0 ? EPOLL_CTL_DEL : events_ == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (::epoll_ctl(loop_->epoll_.get(), operation, fd_, &event) == 0) {
    events_ = events;
  }
}

void Watch::stop() {
  if (loop_ == nullptr) {
    return;
  }
  set_events(0);
  loop_->handlers_.erase(id_);
  loop_ = nullptr;
  events_ = 0;
}

}  // namespace ramet::guest
