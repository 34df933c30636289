#include "vmm/memory/fault_around.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/userfaultfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

// include/uapi/linux/userfaultfd.h; headers that this is built with may be older.
constexpr int kUserModeOnly = 1;  // Linux 5.11: then it needs no privilege
constexpr uint64_t kWriteProtectShmem = uint64_t{1} << 12;  // Linux 5.19

template <typename T>
Status control(int fd, unsigned long request, T* argument, const char* what) {
  return sys::ioctl(fd, request, static_cast<void*>(argument)).status(what);
}

}  // namespace

StatusOr<FaultAroundOff> FaultAroundOff::create(const GuestMemory& memory) {
  const sys::Result made = sys::invoke(sys::Call::kUserfaultfd, sys::OnEintr::kRetry, [] {
    return ::syscall(SYS_userfaultfd, O_CLOEXEC | kUserModeOnly);
  });
  RAMET_RETURN_IF_ERROR(made.status("userfaultfd"));
  UniqueFd fd(static_cast<int>(made.value));
  uffdio_api api = {.api = UFFD_API, .features = kWriteProtectShmem, .ioctls = 0};
  RAMET_RETURN_IF_ERROR(control(fd.get(), UFFDIO_API, &api, "UFFDIO_API"));
  for (size_t i = 0; i < memory.regions().size(); ++i) {
    uffdio_register range = {};
    range.range = {memory.host_address(i), memory.regions()[i].size};
    range.mode = UFFDIO_REGISTER_MODE_WP;
    RAMET_RETURN_IF_ERROR(control(fd.get(), UFFDIO_REGISTER, &range, "UFFDIO_REGISTER"));
  }
  return FaultAroundOff(std::move(fd));
}

}  // namespace ramet
