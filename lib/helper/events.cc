#include "lib/helper/events.h"

#include <sys/epoll.h>

#include <array>
#include <span>
#include <utility>

#include "vmm/base/socket.h"
#include "vmm/base/syscall.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kStopId = 0;
constexpr size_t kEventsAtOnce = 16;
constexpr int kStopTries = 3;

}  // namespace

StatusOr<std::unique_ptr<HelperEvents>> HelperEvents::start(jail::Jail* jail) {
  std::unique_ptr<HelperEvents> self(new HelperEvents());
  RAMET_ASSIGN_OR_RETURN(self->epoll_, sys::epoll());
  RAMET_ASSIGN_OR_RETURN(self->stop_, sys::eventfd());
  RAMET_RETURN_IF_ERROR(sys::epoll_add(self->epoll_.get(), self->stop_.get(), EPOLLIN, kStopId));
  RAMET_ASSIGN_OR_RETURN(
      self->thread_,
      jail->run(jail::ThreadKind::kEvents, [raw = self.get()](jail::TenantSlot&) { raw->body(); }));
  return self;
}

HelperEvents::~HelperEvents() { stop(); }

void HelperEvents::stop() {
  if (thread_ != nullptr) {
    const uint64_t one = 1;
    const auto bytes = std::as_bytes(std::span<const uint64_t, 1>(&one, 1));
    // Again where it fails: the thread would wait for ever.
    for (int i = 0; i < kStopTries && !sys::write(stop_.get(), bytes).ok(); ++i) {
    }
    thread_.reset();
  }
}

StatusOr<uint64_t> HelperEvents::add(UniqueFd socket, std::shared_ptr<EventSink> sink) {
  const std::lock_guard lock(mutex_);
  const uint64_t id = next_id_++;
  const int fd = socket.get();
  // Before epoll knows of it: its first event may come at once.
  sources_[id] = std::make_shared<const Source>(Source{std::move(socket), std::move(sink)});
  if (Status added = sys::epoll_add(epoll_.get(), fd, EPOLLIN, id); !added.ok()) {
    sources_.erase(id);
    return added;
  }
  return id;
}

// Closing its only descriptor takes it out of the epoll set too.
void HelperEvents::remove(uint64_t id) {
  std::shared_ptr<const Source> source;
  const std::lock_guard lock(mutex_);
  if (const auto found = sources_.find(id); found != sources_.end()) {
    source = std::move(found->second);  // goes after the lock
    sources_.erase(found);
  }
}

std::shared_ptr<const HelperEvents::Source> HelperEvents::find(uint64_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = sources_.find(id);
  return found == sources_.end() ? nullptr : found->second;
}

void HelperEvents::body() {
  std::vector<std::byte> room(kMaxMessage);
  std::array<epoll_event, kEventsAtOnce> events;
  while (true) {
    const sys::Result got = sys::epoll_wait(epoll_.get(), events, -1);
    for (const epoll_event& event :
         std::span(events).first(static_cast<size_t>(std::max<int64_t>(got.value, 0)))) {
      if (event.data.u64 == kStopId) {
        return;
      }
      serve(event.data.u64, room);
    }
  }
}

void HelperEvents::serve(uint64_t id, std::span<std::byte> room) {
  const auto source = find(id);
  if (source == nullptr) {
    return;
  }
  const auto got = receive_message(source->socket.get(), room, Blocking::kDontWait);
  if (absl::IsUnavailable(got.status())) {
    return;
  }
  Status why = got.status();
  if (got.ok() && got->bytes != 0) {
    auto event = decode_event(room.first(got->bytes));
    if (event.ok()) {
      source->sink->on_event(*std::move(event));
      return;
    }
    why = event.status();
  }
  remove(id);
  source->sink->on_gone(why);
}

}  // namespace ramet::helper
