// The one way to the kernel: every system call of Ramet that can fail passes through here, so that
// EINTR is handled once, errno is read once, and a FaultPlan can fail the n-th call.
//
// Thread rule: free functions, call from anywhere.
// Invariant: a Result is a value >= 0 with error 0, or value -1 with error > 0.
// Calls whose header has its home elsewhere (mmap in vmm/memory, io_uring in vmm/io) are made there
// through invoke().
#ifndef RAMET_VMM_BASE_SYSCALL_H_
#define RAMET_VMM_BASE_SYSCALL_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <absl/strings/str_format.h>

#include "vmm/base/fault_plan.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

struct stat;
struct iovec;
struct pollfd;
struct epoll_event;

namespace ramet::sys {

struct Result {
  int64_t value = -1;
  int error = 0;

  bool ok() const { return error == 0; }
  // OK, or errno_status(error, what).
  Status status(std::string_view what) const { return ok() ? Status() : errno_status(error, what); }
  // As absl::StrFormat, and only where it is needed: a call for each exit of a guest asks for it.
  template <typename First, typename... Rest>
  Status status(const absl::FormatSpec<First, Rest...>& what, const First& first,
                const Rest&... rest) const {
    return ok() ? Status() : errno_status(error, absl::StrFormat(what, first, rest...));
  }
};

// Whether a call is repeated while the kernel answers EINTR.
enum class OnEintr : uint8_t { kRetry, kReturn };

// `function` returns -1 and sets errno on failure.
template <typename Function>
Result call_until_done(OnEintr on_eintr, Function function) {
  while (true) {
    const auto value = function();
    if (value >= 0) {
      return {static_cast<int64_t>(value), 0};
    }
    if (errno != EINTR || on_eintr == OnEintr::kReturn) {
      return {-1, errno};
    }
  }
}

// The same through the shim: an armed plan may fail it.
template <typename Function>
Result invoke(Call call, OnEintr on_eintr, Function function) {
  if (const auto injected = injected_error(call)) {
    return {-1, *injected};
  }
  return call_until_done(on_eintr, function);
}

// ioctl with an integer or a pointer argument. EINTR is returned, not retried: KVM_RUN means
// something by it.
Result ioctl(int fd, unsigned long request, uint64_t argument = 0);
Result ioctl(int fd, unsigned long request, void* argument);

// Opens with O_CLOEXEC added. NotFound, PermissionDenied and the others of errno_status.
StatusOr<UniqueFd> open(const std::string& path, int flags, unsigned mode = 0);
StatusOr<UniqueFd> open_at(int directory, const std::string& name, int flags, unsigned mode = 0);

// One call each; may be short. EINTR is retried.
Result read(int fd, std::span<std::byte> into);
Result write(int fd, std::span<const std::byte> from);
Result preadv(int fd, std::span<const iovec> into, uint64_t offset);
Result pwritev(int fd, std::span<const iovec> from, uint64_t offset);

// Makes the process's table of descriptors as large as for so many, or its limit. The kernel lets a
// process of several threads wait for a grace period (8 to 20 ms were measured) each time that the
// table doubles (expand_fdtable(), fs/file.c): whoever will need many takes the wait when it
// starts.
void make_room_for_descriptors(int any, uint32_t count);

// Waits for events; `timeout_ms` -1: for ever. The value counts the descriptors with events.
Result poll(std::span<pollfd> fds, int timeout_ms);

// Whole transfers: loop over short ones; end of file before the end is DataLoss naming both sizes.
Status read_exactly(int fd, std::span<std::byte> into, std::string_view what);
Status write_all(int fd, std::span<const std::byte> from, std::string_view what);
Status pread_exactly(int fd, std::span<std::byte> into, uint64_t offset, std::string_view what);
Status pwrite_all(int fd, std::span<const std::byte> from, uint64_t offset, std::string_view what);

Status fsync(int fd, std::string_view what);
Status rename(const std::string& from, const std::string& to);
// AlreadyExists when `to` is there (RENAME_NOREPLACE), where the file system knows the flag; else a
// check and a rename.
Status rename_no_replace(const std::string& from, const std::string& to);
Status unlink(const std::string& path);
Status rmdir(const std::string& path);
Status mkdir(const std::string& path, unsigned mode);
Status ftruncate(int fd, uint64_t size, std::string_view what);
// Frees the blocks of [offset, offset + size): the range reads as zeros (FALLOC_FL_PUNCH_HOLE |
// KEEP_SIZE).
Status punch_hole(int fd, uint64_t offset, uint64_t size);
// Gives [offset, offset + size) its blocks ahead of writes (fallocate(2)); the file keeps its size.
Status allocate(int fd, uint64_t offset, uint64_t size);
Result lseek(int fd, int64_t offset, int whence);
StatusOr<uint64_t> file_size(int fd, std::string_view what);
Result fstat(int fd, struct stat* into);
Result fcntl(int fd, int command, int64_t argument);

// A new eventfd (EFD_CLOEXEC | EFD_NONBLOCK).
StatusOr<UniqueFd> eventfd();
// A new timerfd on CLOCK_MONOTONIC (TFD_CLOEXEC | TFD_NONBLOCK).
StatusOr<UniqueFd> timerfd();
// Arms `fd` once at `deadline_ns` on CLOCK_MONOTONIC; 0 disarms.
Status timerfd_arm(int fd, uint64_t deadline_ns);
// A new epoll instance (EPOLL_CLOEXEC); `id` comes back as the data of each event of `fd`.
StatusOr<UniqueFd> epoll();
Status epoll_add(int epoll, int fd, uint32_t events, uint64_t id);
// Where it is in the set, no event of it comes any more.
void epoll_remove(int epoll, int fd);
Result epoll_wait(int epoll, std::span<epoll_event> events, int timeout_ms);
// Fills `into` from the kernel's generator.
Status getrandom(std::span<std::byte> into);

}  // namespace ramet::sys

#endif  // RAMET_VMM_BASE_SYSCALL_H_
