#include "lib/api/fd_source.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "vmm/base/syscall.h"

namespace sandbox {
namespace {

// The stop wakes the wait at once; should even that call fail, it ends by itself.
constexpr int kLookAgainMs = 1000;

}  // namespace

absl::StatusOr<std::unique_ptr<FdSource>> FdSource::create(ramet::jail::Jail* jail, int fd) {
  std::unique_ptr<FdSource> source(new FdSource(fd));
  RAMET_ASSIGN_OR_RETURN(source->stop_, ramet::sys::eventfd());
  RAMET_ASSIGN_OR_RETURN(
      source->thread_,
      jail->run(ramet::jail::ThreadKind::kStdin,
                [self = source.get()](ramet::jail::TenantSlot&) { self->body(); }));
  return source;
}

FdSource::~FdSource() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    emptied_.notify_all();
  }
  const uint64_t one = 1;
  ramet::sys::write(stop_.get(), std::as_bytes(std::span<const uint64_t, 1>(&one, 1)));
  if (thread_ != nullptr) {
    thread_->join();
  }
}

void FdSource::attach(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

absl::StatusOr<ramet::IoResult> FdSource::try_read(std::span<std::byte> into) {
  const std::lock_guard lock(mutex_);
  if (begin_ == end_) {
    if (!error_.ok()) {
      return error_;
    }
    return at_end_ ? ramet::IoResult::end() : ramet::IoResult::would_block();
  }
  const size_t bytes = std::min(into.size(), end_ - begin_);
  std::memcpy(into.data(), buffer_.data() + begin_, bytes);
  begin_ += bytes;
  if (begin_ == end_) {
    emptied_.notify_all();
  }
  return ramet::IoResult::moved(bytes);
}

absl::StatusOr<ramet::sys::Result> FdSource::wait_and_read() {
  std::array<pollfd, 2> fds = {pollfd{fd_, POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
  RAMET_RETURN_IF_ERROR(ramet::sys::poll(fds, kLookAgainMs).status("wait for standard input"));
  if (fds[1].revents != 0) {
    return absl::CancelledError("no more input is wanted");
  }
  return fds[0].revents == 0 ? ramet::sys::Result{-1, EAGAIN} : ramet::sys::read(fd_, buffer_);
}

void FdSource::body() {
  std::unique_lock lock(mutex_);
  while (!stopping_ && !at_end_ && error_.ok()) {
    emptied_.wait(lock, [&] { return stopping_ || begin_ == end_; });
    if (stopping_) {
      return;
    }
    lock.unlock();
    const auto got = wait_and_read();
    lock.lock();
    if (absl::IsCancelled(got.status())) {
      return;
    }
    begin_ = 0;
    end_ = got.ok() && got->ok() ? static_cast<size_t>(got->value) : 0;
    at_end_ = got.ok() && got->ok() && got->value == 0;
    error_ = got.ok() ? got->status("read standard input") : got.status();
    if (got.ok() && got->error == EAGAIN) {
      // Nothing yet; or a descriptor that somebody else made non-blocking and read empty.
      error_ = absl::OkStatus();
      continue;
    }
    if (wake_) {
      wake_();
    }
  }
}

}  // namespace sandbox
