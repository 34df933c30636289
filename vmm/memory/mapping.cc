#include "vmm/memory/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <utility>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

Status advise(void* data, uint64_t size, int advice, const char* what) {
  return sys::invoke(sys::Call::kMadvise, sys::OnEintr::kRetry,
                     [&] { return ::madvise(data, size, advice); })
      .status(what);
}

// MFD_EXEC, include/uapi/linux/memfd.h of Linux 6.3; this C library does not know it.
constexpr unsigned kMfdExec = 0x10;

sys::Result new_memfd(const char* name, unsigned more_flags) {
  return sys::invoke(sys::Call::kMemfdCreate, sys::OnEintr::kRetry, [&] {
    return ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | more_flags);
  });
}

}  // namespace

StatusOr<Mapping> Mapping::map_file(int fd, uint64_t offset, uint64_t size, MapMode mode) {
  const int protection = mode == MapMode::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  const int sharing = mode == MapMode::kPrivate ? MAP_PRIVATE : MAP_SHARED;
  void* address = MAP_FAILED;
  const sys::Result result = sys::invoke(sys::Call::kMmap, sys::OnEintr::kRetry, [&] {
    address =
        ::mmap(nullptr, size, protection, sharing | MAP_NORESERVE, fd, static_cast<off_t>(offset));
    return address == MAP_FAILED ? -1 : 0;
  });
  if (!result.ok()) {
    return result.status(absl::StrFormat("map %d bytes of guest memory", size));
  }
  Mapping mapping(static_cast<std::byte*>(address), size);
  RAMET_RETURN_IF_ERROR(advise(address, size, MADV_DONTFORK, "madvise(MADV_DONTFORK)"));
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
  const sys::Result result = sys::fcntl(fd, F_ADD_SEALS, kSeals);
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
