#include "lib/helper/channel.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <absl/strings/str_format.h>

#include "lib/helper/wire/build.h"
#include "vmm/base/clock.h"
#include "vmm/base/socket.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kLookAgain = 1'000;  // milliseconds
constexpr size_t kReplyRoom = 2 * kMaxText;

Status gone() { return absl::UnavailableError("the helper process has ended"); }

Status late() { return absl::DeadlineExceededError("the helper process did not answer in time"); }

Status busy() {
  return absl::DeadlineExceededError("the helper process is still at another request");
}

// False where another holds it until the deadline.
bool lock_in_time(std::unique_lock<TimedMutex>* lock, uint64_t deadline_ns) {
  if (deadline_ns == 0) {
    lock->lock();
    return true;
  }
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  return lock->try_lock_until(deadline);
}

// Until the socket is ready for `events`, or a moment has passed.
Status wait_for(int socket, int16_t events, uint64_t deadline_ns) {
  const uint64_t now = monotonic_ns();
  if (deadline_ns != 0 && now >= deadline_ns) {
    return late();
  }
  const uint64_t left =
      deadline_ns == 0 ? kLookAgain : std::min((deadline_ns - now) / kMillisecond + 1, kLookAgain);
  pollfd ready = {.fd = socket, .events = events, .revents = 0};
  return sys::poll({&ready, 1}, static_cast<int>(left)).status("wait for a helper process");
}

}  // namespace

RequestChannel::RequestChannel(UniqueFd socket) : socket_(std::move(socket)), room_(kReplyRoom) {}

StatusOr<Hello> RequestChannel::await_hello(uint64_t deadline_ns) {
  const std::lock_guard lock(mutex_);
  RAMET_ASSIGN_OR_RETURN(const Reply reply, receive(0, deadline_ns));
  if (const auto* failed = std::get_if<Done>(&reply); failed != nullptr && !failed->status.ok()) {
    return failed->status;
  }
  const auto* hello = std::get_if<Hello>(&reply);
  if (hello == nullptr || hello->build != kBuild) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the helper program is no \"%s\" but \"%s\"", std::string(kBuild),
                        hello == nullptr ? "something else" : hello->build));
  }
  return *hello;
}

StatusOr<Reply> RequestChannel::receive(Sequence number, uint64_t deadline_ns) {
  while (true) {
    const auto got = receive_message(socket_.get(), room_, Blocking::kDontWait);
    if (got.ok() && got->bytes < sizeof number) {
      return gone();
    }
    if (!got.ok() && !absl::IsUnavailable(got.status())) {
      return got.status();
    }
    Sequence answered = 0;
    std::memcpy(&answered, room_.data(), sizeof answered);
    if (got.ok() && answered == number) {
      return decode_reply(std::span(room_).subspan(sizeof answered, got->bytes - sizeof answered));
    }
    if (got.ok() && deadline_ns != 0 && monotonic_ns() >= deadline_ns) {
      return late();
    }
    if (!got.ok()) {
      RAMET_RETURN_IF_ERROR(wait_for(socket_.get(), POLLIN, deadline_ns));
    }
  }
}

Status RequestChannel::send(Sequence number, const Request& request, uint64_t deadline_ns,
                            std::span<const int> files) {
  const auto head = std::as_bytes(std::span<const Sequence, 1>(&number, 1));
  const auto body = encode(request);
  while (true) {
    const sys::Result sent = send_message(socket_.get(), head, body, Blocking::kDontWait, files);
    if (sent.ok()) {
      return Status();
    }
    if (sent.error != EAGAIN) {
      return gone();
    }
    RAMET_RETURN_IF_ERROR(wait_for(socket_.get(), POLLOUT, deadline_ns));
  }
}

StatusOr<Reply> RequestChannel::converse(const Request& request, uint64_t deadline_ns,
                                         std::span<const int> files) {
  std::unique_lock lock(mutex_, std::defer_lock);
  if (!lock_in_time(&lock, deadline_ns)) {
    return busy();
  }
  RAMET_RETURN_IF_ERROR(broken_);
  const Sequence number = ++last_;
  const Status sent = send(number, request, deadline_ns, files);
  auto reply = sent.ok() ? receive(number, deadline_ns) : StatusOr<Reply>(sent);
  if (reply.ok() || absl::IsDeadlineExceeded(reply.status())) {
    return reply;
  }
  broken_ = absl::IsDataLoss(reply.status()) || absl::IsUnavailable(reply.status())
                ? reply.status()
                : absl::UnavailableError(absl::StrFormat("the helper process cannot be reached: %s",
                                                         std::string(reply.status().message())));
  return broken_;
}

Status RequestChannel::request(const Request& request, uint64_t deadline_ns,
                               std::span<const int> files) {
  RAMET_ASSIGN_OR_RETURN(const Reply reply, converse(request, deadline_ns, files));
  const auto* done = std::get_if<Done>(&reply);
  return done != nullptr ? done->status
                         : absl::DataLossError("the helper process answered something else");
}

Status RequestChannel::post(const Request& request, uint64_t deadline_ns,
                            std::span<const int> files) {
  std::unique_lock lock(mutex_, std::defer_lock);
  if (!lock_in_time(&lock, deadline_ns)) {
    return busy();
  }
  RAMET_RETURN_IF_ERROR(broken_);
  return send(++last_, request, deadline_ns, files);
}

template <typename Answer>
StatusOr<Answer> RequestChannel::ask(const Request& request, uint64_t deadline_ns,
                                     std::span<const int> files) {
  RAMET_ASSIGN_OR_RETURN(const Reply reply, converse(request, deadline_ns, files));
  if (const auto* answer = std::get_if<Answer>(&reply)) {
    return *answer;
  }
  const auto* done = std::get_if<Done>(&reply);
  return done != nullptr && !done->status.ok()
             ? done->status
             : absl::DataLossError("the helper process answered something else");
}

StatusOr<InstanceMetrics> RequestChannel::ask_metrics(uint64_t deadline_ns) {
  return ask<InstanceMetrics>(AskMetrics{}, deadline_ns);
}

StatusOr<MemoryUse> RequestChannel::ask_memory(uint64_t deadline_ns) {
  return ask<MemoryUse>(AskMemory{}, deadline_ns);
}

StatusOr<Forked> RequestChannel::fork(const Fork& what, uint64_t deadline_ns,
                                      std::span<const int> files) {
  return ask<Forked>(what, deadline_ns, files);
}

StatusOr<SnapshotTaken> RequestChannel::take_snapshot(const TakeSnapshot& how, uint64_t deadline_ns,
                                                      std::span<const int> files) {
  return ask<SnapshotTaken>(how, deadline_ns, files);
}

bool RequestChannel::alive() const {
  std::unique_lock lock(mutex_, std::defer_lock);
  if (!lock.try_lock_until(std::chrono::steady_clock::now())) {
    return true;  // at a request, which will tell
  }
  return broken_.ok() && !wait_closed(0);
}

bool RequestChannel::wait_closed(int milliseconds) const {
  pollfd ready = {.fd = socket_.get(), .events = 0, .revents = 0};  // POLLHUP comes unasked
  return sys::poll({&ready, 1}, milliseconds).value != 0;
}

void RequestChannel::end_sending() const { shutdown_sending(socket_.get()); }

void RequestChannel::close() {
  const std::lock_guard lock(mutex_);
  if (broken_.ok()) {
    broken_ = gone();
  }
  socket_.reset();
}

}  // namespace ramet::helper
