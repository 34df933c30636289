#include "vmm/memory/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <chrono>
#include <thread>
#include <utility>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

constexpr int kSealAgain = 6;

Status advise(void* data, uint64_t size, int advice, const char* what) {
  return sys::invoke(sys::Call::kMadvise, sys::OnEintr::kRetry,
                     [&] { return ::madvise(data, size, advice); })
      .status(what);
}

// At `where`, over what is mapped there, or anywhere.
StatusOr<std::byte*> map(std::byte* where, const MappedPart& part, MapMode mode) {
  const int protection = mode == MapMode::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  const int sharing = mode == MapMode::kShared ? MAP_SHARED : MAP_PRIVATE;
  const int flags = sharing | MAP_NORESERVE | (where == nullptr ? 0 : MAP_FIXED);
  void* address = MAP_FAILED;
  const sys::Result result = sys::invoke(sys::Call::kMmap, sys::OnEintr::kRetry, [&] {
    address =
        ::mmap(where, part.size, protection, flags, part.fd, static_cast<off_t>(part.file_offset));
    return address == MAP_FAILED ? -1 : 0;
  });
  RAMET_RETURN_IF_ERROR(result.status("map %d bytes of guest memory", part.size));
  return static_cast<std::byte*>(address);
}

// include/uapi/asm-generic/mman-common.h of Linux 6.13; this C library does not know it.
constexpr int kMadvGuardInstall = 102;

// MFD_EXEC, include/uapi/linux/memfd.h of Linux 6.3; this C library does not know it.
constexpr unsigned kMfdExec = 0x10;

sys::Result new_memfd(const char* name, unsigned more_flags) {
  return sys::invoke(sys::Call::kMemfdCreate, sys::OnEintr::kRetry, [&] {
    return ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | more_flags);
  });
}

}  // namespace

StatusOr<Mapping> Mapping::map_files(int fd, uint64_t offset, uint64_t size,
                                     std::span<const MappedPart> parts, MapMode mode) {
  RAMET_ASSIGN_OR_RETURN(std::byte* const start, map(nullptr, {0, size, fd, offset}, mode));
  Mapping mapping(start, size);
  for (const MappedPart& part : parts) {
    if ((part.offset | part.size) % kPageSize != 0 || part.offset > size ||
        part.size > size - part.offset) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "map %d bytes of a file over %d of a mapping of %d", part.size, part.offset, size));
    }
    RAMET_RETURN_IF_ERROR(map(start + part.offset, part, mode).status());
  }
  RAMET_RETURN_IF_ERROR(advise(start, size, MADV_DONTFORK, "madvise(MADV_DONTFORK)"));
  RAMET_RETURN_IF_ERROR(advise(start, size, MADV_DONTDUMP, "madvise(MADV_DONTDUMP)"));
  return mapping;
}

StatusOr<Mapping> Mapping::map_stacks(uint64_t size) {
  void* address = MAP_FAILED;
  const sys::Result result = sys::invoke(sys::Call::kMmap, sys::OnEintr::kRetry, [&] {
    address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    return address == MAP_FAILED ? -1 : 0;
  });
  if (!result.ok()) {
    return result.status("map %d bytes of stacks", size);
  }
  Mapping mapping(static_cast<std::byte*>(address), size);
  // A kernel without huge pages knows no such advice (EINVAL), and needs none.
  const Status small = advise(address, size, MADV_NOHUGEPAGE, "madvise(MADV_NOHUGEPAGE)");
  RAMET_RETURN_IF_ERROR(absl::IsInvalidArgument(small) ? Status() : small);
  RAMET_RETURN_IF_ERROR(advise(address, size, MADV_DONTDUMP, "madvise(MADV_DONTDUMP)"));
  return mapping;
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Mapping::~Mapping() { unmap(); }

void Mapping::unmap() {
  if (data_ != nullptr) {
    ::munmap(data_, size_);
    data_ = nullptr;
  }
}

Status Mapping::drop_private(uint64_t offset, uint64_t size) const {
  if (offset > size_ || size > size_ - offset) {
    return absl::InvalidArgumentError(
        absl::StrFormat("drop %d private bytes at %d of a mapping of %d", size, offset, size_));
  }
  return advise(data_ + offset, size, MADV_DONTNEED, "madvise(MADV_DONTNEED)");
}

Status Mapping::populate_private(uint64_t offset, uint64_t size) const {
  if (offset > size_ || size > size_ - offset) {
    return absl::InvalidArgumentError(
        absl::StrFormat("populate %d bytes at %d of a mapping of %d", size, offset, size_));
  }
  return advise(data_ + offset, size, MADV_POPULATE_WRITE, "madvise(MADV_POPULATE_WRITE)");
}

Status Mapping::guard_page(uint64_t offset) const {
  if (offset % kPageSize != 0 || offset >= size_) {
    return absl::InvalidArgumentError(
        absl::StrFormat("guard the page at %d of a mapping of %d", offset, size_));
  }
  Status guarded =
      advise(data_ + offset, kPageSize, kMadvGuardInstall, "madvise(MADV_GUARD_INSTALL)");
  if (!absl::IsInvalidArgument(guarded)) {
    return guarded;
  }
  return sys::invoke(sys::Call::kMprotect, sys::OnEintr::kRetry,
                     [&] { return ::mprotect(data_ + offset, kPageSize, PROT_NONE); })
      .status("mprotect of a guard page");
}

StatusOr<UniqueFd> create_program_memfd(const char* name, std::span<const std::byte> bytes) {
  sys::Result result = new_memfd(name, kMfdExec);
  if (result.error == EINVAL) {
    result = new_memfd(name, 0);  // before Linux 6.3 every memfd may be executed
  }
  if (result.error == EACCES) {
    return absl::FailedPreconditionError(
        "this host forbids programs in memory (sysctl vm.memfd_noexec=2): give the path of the "
        "helper program");
  }
  RAMET_RETURN_IF_ERROR(result.status("memfd_create"));
  UniqueFd fd(static_cast<int>(result.value));
  RAMET_RETURN_IF_ERROR(sys::write_all(fd.get(), bytes, "write a program into a memfd"));
  RAMET_RETURN_IF_ERROR(seal_memfd(fd.get()));
  return fd;
}

StatusOr<UniqueFd> create_memfd(const char* name, uint64_t size) {
  const sys::Result result = new_memfd(name, 0);
  if (!result.ok()) {
    return result.status("memfd_create");
  }
  UniqueFd fd(static_cast<int>(result.value));
  RAMET_RETURN_IF_ERROR(
      sys::ftruncate(fd.get(), size, absl::StrFormat("size a memfd to %d bytes", size)));
  return fd;
}

Status seal_memfd(int fd) {
  sys::Result result = sys::fcntl(fd, F_ADD_SEALS, kSeals);
  // Also where the kernel itself still holds pages that were just written (memfd_wait_for_pins,
  // mm/memfd.c), which passes.
  for (int again = 0; result.error == EBUSY && again < kSealAgain; ++again) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1 << again));
    result = sys::fcntl(fd, F_ADD_SEALS, kSeals);
  }
  if (result.error == EBUSY) {
    return absl::FailedPreconditionError("seal a memfd that is still mapped writable and shared");
  }
  return result.status("fcntl(F_ADD_SEALS)");
}

StatusOr<bool> is_sealed(int fd) {
  const sys::Result result = sys::fcntl(fd, F_GET_SEALS, 0);
  if (!result.ok()) {
    return result.status("fcntl(F_GET_SEALS)");
  }
  return (result.value & kSeals) == kSeals;
}

}  // namespace ramet
