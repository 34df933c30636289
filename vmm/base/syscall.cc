#include "vmm/base/syscall.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include <absl/strings/str_format.h>

namespace ramet {

namespace sys {
namespace {

StatusOr<UniqueFd> owned(Result result, std::string_view what) {
  if (!result.ok()) {
    return result.status(what);
  }
  return UniqueFd(static_cast<int>(result.value));
}

std::string text(std::string_view view) { return std::string(view); }

// invoke() of a call that moves bytes, which a plan can cut short: `function` is given how many it
// may move at most. EINTR is retried.
template <typename Function>
Result transfer(Call call, size_t bytes, Function function) {
  const auto injected = injected_error(call);
  if (injected && *injected != kShortTransfer) {
    return {-1, *injected};
  }
  const size_t most = injected ? std::min<size_t>(bytes, 1) : bytes;
  return call_until_done(OnEintr::kRetry, [&] { return function(most); });
}

// The same with vectors, of which none is empty: `function` is given those to use.
template <typename Function>
Result transfer_vectors(Call call, std::span<const iovec> vectors, Function function) {
  size_t bytes = 0;
  for (const iovec& vector : vectors) {
    bytes += vector.iov_len;
  }
  return transfer(call, bytes, [&](size_t most) {
    const iovec first{vectors.empty() ? nullptr : vectors.front().iov_base, most};
    return function(most < bytes ? std::span(&first, 1) : vectors);
  });
}

}  // namespace

Result ioctl(int fd, unsigned long request, uint64_t argument) {
  return invoke(Call::kIoctl, OnEintr::kReturn, [&] { return ::ioctl(fd, request, argument); });
}

Result ioctl(int fd, unsigned long request, void* argument) {
  return invoke(Call::kIoctl, OnEintr::kReturn, [&] { return ::ioctl(fd, request, argument); });
}

StatusOr<UniqueFd> open(const std::string& path, int flags, unsigned mode) {
  return open_at(AT_FDCWD, path, flags, mode);
}

StatusOr<UniqueFd> open_at(int directory, const std::string& name, int flags, unsigned mode) {
  return owned(invoke(Call::kOpen, OnEintr::kRetry,
                      [&] { return ::openat(directory, name.c_str(), flags | O_CLOEXEC, mode); }),
               absl::StrFormat("open %s", name));
}

Result read(int fd, std::span<std::byte> into) {
  return transfer(Call::kRead, into.size(),
                  [&](size_t most) { return ::read(fd, into.data(), most); });
}

Result write(int fd, std::span<const std::byte> from) {
  return transfer(Call::kWrite, from.size(),
                  [&](size_t most) { return ::write(fd, from.data(), most); });
}

Result preadv(int fd, std::span<const iovec> into, uint64_t offset) {
  return transfer_vectors(Call::kPread, into, [&](std::span<const iovec> use) {
    return ::preadv(fd, use.data(), static_cast<int>(use.size()), static_cast<off_t>(offset));
  });
}

Result pwritev(int fd, std::span<const iovec> from, uint64_t offset) {
  return transfer_vectors(Call::kPwrite, from, [&](std::span<const iovec> use) {
    return ::pwritev(fd, use.data(), static_cast<int>(use.size()), static_cast<off_t>(offset));
  });
}

void make_room_for_descriptors(int any, uint32_t count) {
  rlimit files = {};
  ::getrlimit(RLIMIT_NOFILE, &files);  // cannot fail
  const auto last = static_cast<int>(std::min<rlim_t>(count, files.rlim_cur)) - 1;
  const Result made =
      invoke(Call::kFcntl, OnEintr::kRetry, [&] { return ::fcntl(any, F_DUPFD_CLOEXEC, last); });
  if (made.ok()) {
    const UniqueFd unused(static_cast<int>(made.value));
  }
}

Result poll(std::span<pollfd> fds, int timeout_ms) {
  return invoke(Call::kPoll, OnEintr::kRetry,
                [&] { return ::poll(fds.data(), fds.size(), timeout_ms); });
}

Status read_exactly(int fd, std::span<std::byte> into, std::string_view what) {
  size_t done = 0;
  while (done < into.size()) {
    const Result result = read(fd, into.subspan(done));
    if (!result.ok()) {
      return result.status(what);
    }
    if (result.value == 0) {
      return absl::DataLossError(
          absl::StrFormat("%s: end of file after %d of %d bytes", text(what), done, into.size()));
    }
    done += static_cast<size_t>(result.value);
  }
  return Status();
}

Status write_all(int fd, std::span<const std::byte> from, std::string_view what) {
  size_t done = 0;
  while (done < from.size()) {
    const Result result = write(fd, from.subspan(done));
    if (!result.ok()) {
      return result.status(what);
    }
    done += static_cast<size_t>(result.value);
  }
  return Status();
}

Status pread_exactly(int fd, std::span<std::byte> into, uint64_t offset, std::string_view what) {
  size_t done = 0;
  while (done < into.size()) {
    const iovec part{into.data() + done, into.size() - done};
    const Result result = preadv(fd, {&part, 1}, offset + done);
    if (!result.ok()) {
      return result.status(what);
    }
    if (result.value == 0) {
      return absl::DataLossError(
          absl::StrFormat("%s: end of file at offset %d, %d of %d bytes read", text(what),
                          offset + done, done, into.size()));
    }
    done += static_cast<size_t>(result.value);
  }
  return Status();
}

Status pwrite_all(int fd, std::span<const std::byte> from, uint64_t offset, std::string_view what) {
  size_t done = 0;
  while (done < from.size()) {
    const iovec part{const_cast<std::byte*>(from.data()) + done, from.size() - done};
    const Result result = pwritev(fd, {&part, 1}, offset + done);
    if (!result.ok()) {
      return result.status(what);
    }
    done += static_cast<size_t>(result.value);
  }
  return Status();
}

Status fsync(int fd, std::string_view what) {
  return invoke(Call::kFsync, OnEintr::kRetry, [&] { return ::fsync(fd); }).status(what);
}

Status rename(const std::string& from, const std::string& to) {
  return invoke(Call::kRename, OnEintr::kRetry, [&] { return ::rename(from.c_str(), to.c_str()); })
      .status("rename %s to %s", from, to);
}

Status rename_no_replace(const std::string& from, const std::string& to) {
  Result result = invoke(Call::kRename, OnEintr::kRetry, [&] {
    return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  });
  // 9p and some others take no flags.
  if (result.error == EINVAL) {
    if (::faccessat(AT_FDCWD, to.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
      result.error = EEXIST;
    } else {
      return rename(from, to);
    }
  }
  if (result.error == EEXIST) {
    return absl::AlreadyExistsError(absl::StrFormat("%s is there already", to));
  }
  return result.status("rename %s to %s", from, to);
}

Status unlink(const std::string& path) {
  return invoke(Call::kUnlink, OnEintr::kRetry, [&] { return ::unlink(path.c_str()); })
      .status("unlink %s", path);
}

Status rmdir(const std::string& path) {
  return invoke(Call::kUnlink, OnEintr::kRetry, [&] { return ::rmdir(path.c_str()); })
      .status("rmdir %s", path);
}

Status mkdir(const std::string& path, unsigned mode) {
  return invoke(Call::kMkdir, OnEintr::kRetry, [&] { return ::mkdir(path.c_str(), mode); })
      .status("mkdir %s", path);
}

Status ftruncate(int fd, uint64_t size, std::string_view what) {
  return invoke(Call::kFtruncate, OnEintr::kRetry,
                [&] { return ::ftruncate(fd, static_cast<off_t>(size)); })
      .status(what);
}

Status punch_hole(int fd, uint64_t offset, uint64_t size) {
  return invoke(Call::kFallocate, OnEintr::kRetry,
                [&] {
                  return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                     static_cast<off_t>(offset), static_cast<off_t>(size));
                })
      .status("punch a hole of %d bytes at %d", size, offset);
}

Status allocate(int fd, uint64_t offset, uint64_t size) {
  return invoke(Call::kFallocate, OnEintr::kRetry,
                [&] {
                  return ::fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                                     static_cast<off_t>(size));
                })
      .status("allocate %d bytes at %d", size, offset);
}

Result lseek(int fd, int64_t offset, int whence) {
  return invoke(Call::kLseek, OnEintr::kRetry, [&] { return ::lseek(fd, offset, whence); });
}

StatusOr<uint64_t> file_size(int fd, std::string_view what) {
  struct stat info = {};
  const Result result = sys::fstat(fd, &info);
  if (!result.ok()) {
    return result.status(what);
  }
  return static_cast<uint64_t>(info.st_size);
}

Result fstat(int fd, struct stat* into) {
  return invoke(Call::kStat, OnEintr::kRetry, [&] { return ::fstat(fd, into); });
}

Result fcntl(int fd, int command, int64_t argument) {
  return invoke(Call::kFcntl, OnEintr::kRetry, [&] { return ::fcntl(fd, command, argument); });
}

StatusOr<UniqueFd> eventfd() {
  return owned(invoke(Call::kEventfd, OnEintr::kRetry,
                      [] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }),
               "eventfd");
}

StatusOr<UniqueFd> timerfd() {
  return owned(invoke(Call::kTimerfd, OnEintr::kRetry,
                      [] { return ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); }),
               "timerfd_create");
}

Status timerfd_arm(int fd, uint64_t deadline_ns) {
  itimerspec spec = {};
  spec.it_value.tv_sec = static_cast<time_t>(deadline_ns / 1'000'000'000);
  spec.it_value.tv_nsec = static_cast<long>(deadline_ns % 1'000'000'000);
  return invoke(Call::kTimerfd, OnEintr::kRetry,
                [&] { return ::timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, nullptr); })
      .status("timerfd_settime");
}

StatusOr<UniqueFd> epoll() {
  return owned(invoke(Call::kEpoll, OnEintr::kRetry, [] { return ::epoll_create1(EPOLL_CLOEXEC); }),
               "epoll_create1");
}

Status epoll_add(int epoll, int fd, uint32_t events, uint64_t id) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id;
  return invoke(Call::kEpoll, OnEintr::kRetry,
                [&] { return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event); })
      .status("epoll_ctl(EPOLL_CTL_ADD)");
}

void epoll_remove(int epoll, int fd) {
  invoke(Call::kEpoll, OnEintr::kRetry,
         [&] { return ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr); });
}

Result epoll_wait(int epoll, std::span<epoll_event> events, int timeout_ms) {
  return invoke(Call::kEpoll, OnEintr::kRetry, [&] {
    return ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), timeout_ms);
  });
}

Status getrandom(std::span<std::byte> into) {
  size_t done = 0;
  while (done < into.size()) {
    const Result result = transfer(Call::kGetrandom, into.size() - done, [&](size_t most) {
      return ::getrandom(into.data() + done, most, 0);
    });
    if (!result.ok()) {
      return result.status("getrandom");
    }
    done += static_cast<size_t>(result.value);
  }
  return Status();
}

}  // namespace sys
}  // namespace ramet
