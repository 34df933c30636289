#include "lib/helper/socket_stream.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <utility>

#include "lib/helper/wire/messages.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/socket.h"
#include "vmm/base/syscall.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
// poll(2) counts in milliseconds; far deadlines are waited for in steps.
constexpr uint64_t kLongestWait = 1'000'000;

constexpr std::chrono::milliseconds kToldWithin(1000);

Status closed() { return absl::UnavailableError("the helper process closed the conversation"); }

std::span<const std::byte> tag_bytes(const StreamTag& tag) {
  return std::as_bytes(std::span<const StreamTag, 1>(&tag, 1));
}

int milliseconds_until(uint64_t deadline_ns) {
  if (deadline_ns == 0) {
    return -1;
  }
  const uint64_t now = monotonic_ns();
  return now >= deadline_ns
             ? 0
             : static_cast<int>(std::min((deadline_ns - now) / kMillisecond + 1, kLongestWait));
}

}  // namespace

void StreamGroup::end(const Status& reason) {
  const std::lock_guard lock(mutex_);
  if (ended_.ok()) {
    ended_ = reason.ok() ? absl::CancelledError("the machine ended") : reason;
    end_told_.notify_all();
  }
  for (ByteStream* stream : streams_) {
    stream->wake();
  }
}

Status StreamGroup::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

Status StreamGroup::wait_ended(std::chrono::milliseconds limit) const {
  std::unique_lock lock(mutex_);
  end_told_.wait_for(lock, limit, [&] { return !ended_.ok(); });
  return ended_;
}

void StreamGroup::add(ByteStream* stream) {
  const std::lock_guard lock(mutex_);
  streams_.insert(stream);
}

void StreamGroup::remove(ByteStream* stream) {
  const std::lock_guard lock(mutex_);
  streams_.erase(stream);
}

SocketStream::SocketStream(UniqueFd socket, UniqueFd wake, std::shared_ptr<StreamGroup> group)
    : socket_(std::move(socket)),
      wake_(std::move(wake)),
      group_(std::move(group)),
      in_(kMaxStreamPart + 1) {}

StatusOr<std::unique_ptr<SocketStream>> SocketStream::create(UniqueFd socket,
                                                             std::shared_ptr<StreamGroup> group) {
  RAMET_ASSIGN_OR_RETURN(auto wake, sys::eventfd());
  std::unique_ptr<SocketStream> stream(
      new SocketStream(std::move(socket), std::move(wake), std::move(group)));
  stream->group_->add(stream.get());
  return stream;
}

SocketStream::~SocketStream() { group_->remove(this); }

Status SocketStream::over(const Status& why) const {
  const Status ended = group_->wait_ended(kToldWithin);
  return ended.ok() ? why : ended;
}

Status SocketStream::receive() {
  if (readable()) {
    return Status();
  }
  const auto got = receive_message(socket_.get(), in_, Blocking::kDontWait);
  if (absl::IsUnavailable(got.status())) {
    return group_->ended();
  }
  RAMET_RETURN_IF_ERROR(got.status());
  if (got->bytes == 0) {
    error_ = over(closed());
    return Status();
  }
  switch (static_cast<StreamTag>(in_[0])) {
    case StreamTag::kData:
      if (got->bytes == 1) {
        break;
      }
      at_ = 1;
      end_ = got->bytes;
      return Status();
    case StreamTag::kEnd:
      at_end_ = true;
      return Status();
    case StreamTag::kError:
      error_ = decode_stream_error(std::span(in_).subspan(1, got->bytes - 1));
      // Without a reason it is the connection's end, not the machine's.
      error_ = reason_of(error_).empty() ? error_ : over(error_);
      return Status();
  }
  error_ = absl::DataLossError("the helper process sent a message of no kind that there is");
  return Status();
}

StatusOr<IoResult> SocketStream::try_read(std::span<std::byte> into) {
  RAMET_RETURN_IF_ERROR(receive());
  if (at_ != end_) {
    const size_t size = std::min(into.size(), end_ - at_);
    std::copy_n(in_.begin() + static_cast<std::ptrdiff_t>(at_), size, into.begin());
    at_ += size;
    return IoResult::moved(size);
  }
  RAMET_RETURN_IF_ERROR(error_);
  return at_end_ ? IoResult::end() : IoResult::would_block();
}

StatusOr<IoResult> SocketStream::try_write(std::span<const std::byte> from) {
  if (write_shut_) {
    return absl::FailedPreconditionError("write to a conversation after its end was written");
  }
  RAMET_RETURN_IF_ERROR(group_->ended());
  const size_t size = std::min(from.size(), kMaxStreamPart);
  const sys::Result sent = send_message(socket_.get(), tag_bytes(StreamTag::kData),
                                        from.first(size), Blocking::kDontWait);
  if (sent.error == EAGAIN) {
    return IoResult::would_block();
  }
  if (!sent.ok()) {
    // What came before the end is still to be read, the reason maybe too.
    RAMET_RETURN_IF_ERROR(receive());
    return error_.ok() ? over(closed()) : error_;
  }
  return IoResult::moved(size);
}

void SocketStream::take_wake() const {
  uint64_t count = 0;
  sys::read(wake_.get(), std::as_writable_bytes(std::span<uint64_t, 1>(&count, 1)));
}

StatusOr<Readiness> SocketStream::wait(bool want_write, uint64_t deadline_ns) {
  while (true) {
    if (at_ != end_ || at_end_ || !error_.ok()) {
      return Readiness{.readable = true, .writable = want_write};
    }
    const short interest =
        static_cast<short>(want_write || end_unsent_ ? POLLIN | POLLOUT : POLLIN);
    std::array<pollfd, 2> ready = {pollfd{.fd = socket_.get(), .events = interest, .revents = 0},
                                   pollfd{.fd = wake_.get(), .events = POLLIN, .revents = 0}};
    const int timeout = milliseconds_until(deadline_ns);
    RAMET_RETURN_IF_ERROR(sys::poll(ready, timeout).status("wait for a helper process"));
    const Readiness result = {.readable = (ready[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0,
                              .writable = (ready[0].revents & (POLLOUT | POLLHUP | POLLERR)) != 0};
    if (end_unsent_ && result.writable) {
      RAMET_RETURN_IF_ERROR(send_end());
    }
    const bool woken = ready[1].revents != 0;
    if (woken) {
      take_wake();
    }
    if (!result.readable) {
      RAMET_RETURN_IF_ERROR(group_->ended());
    }
    if (woken || result.readable || (want_write && result.writable)) {
      return result;
    }
    if (deadline_ns != 0 && monotonic_ns() >= deadline_ns) {
      return absl::DeadlineExceededError("wait: the deadline passed");
    }
  }
}

void SocketStream::wake() {
  const uint64_t one = 1;
  sys::write(wake_.get(), std::as_bytes(std::span<const uint64_t, 1>(&one, 1)));
}

Status SocketStream::shutdown_write() {
  if (std::exchange(write_shut_, true)) {
    return Status();
  }
  RAMET_RETURN_IF_ERROR(group_->ended());
  return send_end();
}

Status SocketStream::send_end() {
  const sys::Result sent =
      send_message(socket_.get(), tag_bytes(StreamTag::kEnd), {}, Blocking::kDontWait);
  end_unsent_ = sent.error == EAGAIN;
  return sent.ok() || end_unsent_ || sent.error == EPIPE || sent.error == ECONNRESET
             ? Status()
             : sent.status("end a conversation");
}

}  // namespace ramet::helper
