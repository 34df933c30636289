#include "lib/api/fd_source.h"

#include <poll.h>

#include <algorithm>
#include <cstring>

#include "vmm/base/syscall.h"

namespace sandbox {

absl::StatusOr<std::unique_ptr<FdSource>> FdSource::create(int fd) {
  std::unique_ptr<FdSource> source(new FdSource(fd));
  RAMET_ASSIGN_OR_RETURN(source->stop_, ramet::sys::eventfd());
  RAMET_ASSIGN_OR_RETURN(
      source->thread_,
      ramet::Thread::start("ramet-stdin", [self = source.get()] { self->body(); }));
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

bool FdSource::wait_readable() {
  std::array<pollfd, 2> fds = {pollfd{fd_, POLLIN, 0}, pollfd{stop_.get(), POLLIN, 0}};
  const ramet::sys::Result result = ramet::sys::poll(fds, -1);
  return result.ok() && fds[1].revents == 0;
}

void FdSource::body() {
  std::unique_lock lock(mutex_);
  while (!stopping_ && !at_end_ && error_.ok()) {
    emptied_.wait(lock, [&] { return stopping_ || begin_ == end_; });
    lock.unlock();
    const bool readable = wait_readable();
    const ramet::sys::Result got =
        readable ? ramet::sys::read(fd_, buffer_) : ramet::sys::Result{0, 0};
    lock.lock();
    if (!readable) {
      break;
    }
    begin_ = 0;
    end_ = got.ok() ? static_cast<size_t>(got.value) : 0;
    at_end_ = got.ok() && got.value == 0;
    // A descriptor that somebody else made non-blocking and read empty: not an error, only early.
    error_ = got.error == EAGAIN ? absl::Status() : got.status("read standard input");
    if (wake_) {
      wake_();
    }
  }
}

}  // namespace sandbox
