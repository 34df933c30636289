#include "vmm/jail/supervisor.h"

#include <linux/ioctl.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <vector>

#include "vmm/base/syscall.h"

namespace ramet::jail {
namespace {

constexpr uint64_t kStopId = 0;
constexpr size_t kEventsAtOnce = 16;
// A thread that asks in a loop, or holds up the one that tells, makes the host keep no more.
constexpr size_t kMaxToTell = 1000;
constexpr int kSendTries = 3;
constexpr int kStopTries = 3;

// The kernel writes and reads its own size of a structure, which may be larger than ours.
std::vector<uint64_t> room(size_t bytes) {
  return std::vector<uint64_t>((bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
}

}  // namespace

StatusOr<std::unique_ptr<Supervisor>> Supervisor::start() {
  std::unique_ptr<Supervisor> self(new Supervisor());
  RAMET_RETURN_IF_ERROR(self->prepare());
  Supervisor* const raw = self.get();
  RAMET_ASSIGN_OR_RETURN(self->answering_,
                         Thread::start("ramet-watch", [raw] { raw->answer_calls(); }));
  RAMET_ASSIGN_OR_RETURN(self->telling_, Thread::start("ramet-tell", [raw] { raw->tell(); }));
  return self;
}

Status Supervisor::prepare() {
  RAMET_ASSIGN_OR_RETURN(epoll_, sys::epoll());
  RAMET_ASSIGN_OR_RETURN(stop_, sys::eventfd());
  RAMET_RETURN_IF_ERROR(sys::epoll_add(epoll_.get(), stop_.get(), EPOLLIN, kStopId));
  seccomp_notif_sizes sizes = {};
  const sys::Result got = sys::invoke(sys::Call::kSeccomp, sys::OnEintr::kRetry, [&] {
    return ::syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes);
  });
  if (got.error == EINVAL || got.error == ENOSYS) {
    return absl::UnimplementedError("this kernel cannot hold a call up (seccomp_unotify(2))");
  }
  RAMET_RETURN_IF_ERROR(got.status("seccomp(SECCOMP_GET_NOTIF_SIZES)"));
  request_bytes_ = std::max(size_t{sizes.seccomp_notif}, sizeof(seccomp_notif));
  response_bytes_ = std::max(size_t{sizes.seccomp_notif_resp}, sizeof(seccomp_notif_resp));
  return Status();
}

Supervisor::~Supervisor() {
  if (answering_ != nullptr) {
    const uint64_t one = 1;
    const auto bytes = std::as_bytes(std::span<const uint64_t, 1>(&one, 1));
    // Again where it fails: the thread would wait for ever.
    for (int i = 0; i < kStopTries && !sys::write(stop_.get(), bytes).ok(); ++i) {
    }
    answering_->join();
  }
  if (telling_ != nullptr) {
    {
      const std::lock_guard lock(tell_mutex_);
      stopping_ = true;
      to_tell_changed_.notify_one();
    }
    telling_->join();
  }
}

void Supervisor::leave_to_tell(std::function<void()> what) {
  const std::lock_guard lock(tell_mutex_);
  if (to_tell_.size() < kMaxToTell) {
    to_tell_.push_back(std::move(what));
    to_tell_changed_.notify_one();
  }
}

void Supervisor::tell() {
  std::unique_lock lock(tell_mutex_);
  while (true) {
    to_tell_changed_.wait(lock, [&] { return stopping_ || !to_tell_.empty(); });
    if (to_tell_.empty()) {
      return;
    }
    const std::function<void()> what = std::move(to_tell_.front());
    to_tell_.pop_front();
    lock.unlock();
    what();
    lock.lock();
  }
}

StatusOr<uint64_t> Supervisor::add(UniqueFd listener, Judge judge) {
  const std::lock_guard lock(mutex_);
  const uint64_t id = next_id_++;
  const int fd = listener.get();
  // Before epoll knows of it: its first event may come at once.
  listeners_[id] =
      std::make_shared<const Listener>(Listener{std::move(listener), std::move(judge)});
  Status added = sys::epoll_add(epoll_.get(), fd, EPOLLIN, id);
  if (!added.ok()) {
    listeners_.erase(id);
    return added;
  }
  return id;
}

size_t Supervisor::listeners() const {
  const std::lock_guard lock(mutex_);
  return listeners_.size();
}

std::shared_ptr<const Supervisor::Listener> Supervisor::find(uint64_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = listeners_.find(id);
  return found == listeners_.end() ? nullptr : found->second;
}

// Closing its only descriptor takes it out of the epoll set too.
void Supervisor::remove(uint64_t id) {
  const std::lock_guard lock(mutex_);
  listeners_.erase(id);
}

void Supervisor::answer_calls() {
  std::array<epoll_event, kEventsAtOnce> events;
  while (true) {
    const sys::Result got = sys::epoll_wait(epoll_.get(), events, -1);
    for (const epoll_event& event :
         std::span(events).first(static_cast<size_t>(std::max<int64_t>(got.value, 0)))) {
      if (event.data.u64 == kStopId) {
        return;
      }
      if ((event.events & EPOLLIN) == 0) {
        remove(event.data.u64);  // EPOLLHUP: its last thread has ended
      } else if (const auto listener = find(event.data.u64); listener != nullptr) {
        if (!serve(*listener)) {
          // The kernel lets go of the held thread, with ENOSYS, when the listener closes.
          remove(event.data.u64);
        }
      }
    }
  }
}

bool Supervisor::serve(const Listener& listener) {
  auto request_room = room(request_bytes_);
  auto* request = reinterpret_cast<seccomp_notif*>(request_room.data());
  // ENOENT: the thread has gone meanwhile.
  if (!sys::ioctl(listener.fd.get(), SECCOMP_IOCTL_NOTIF_RECV, static_cast<void*>(request)).ok()) {
    return true;
  }
  HeldCall call = {.number = request->data.nr, .architecture = request->data.arch};
  std::ranges::copy(request->data.args, call.arguments.begin());
  Verdict verdict = listener.judge(call);
  auto response_room = room(response_bytes_);
  auto* response = reinterpret_cast<seccomp_notif_resp*>(response_room.data());
  response->id = request->id;
  response->error = verdict.allow ? 0 : -EPERM;
  response->flags = verdict.allow ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
  sys::Result sent = {-1, EAGAIN};
  for (int i = 0; i < kSendTries && !sent.ok(); ++i) {
    sent = sys::ioctl(listener.fd.get(), SECCOMP_IOCTL_NOTIF_SEND, static_cast<void*>(response));
  }
  if (verdict.then) {
    leave_to_tell(std::move(verdict.then));
  }
  return sent.ok() || sent.error == ENOENT;
}

}  // namespace ramet::jail
