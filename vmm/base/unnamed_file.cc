#include "vmm/base/unnamed_file.h"

#include <fcntl.h>

#include <cerrno>
#include <span>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

constexpr unsigned kOwnerOnly = 0600;

StatusOr<UniqueFd> open_and_unlink(const std::string& directory) {
  uint64_t random = 0;
  RAMET_RETURN_IF_ERROR(sys::getrandom(std::as_writable_bytes(std::span(&random, 1))));
  const std::string path = absl::StrFormat("%s/.ramet-unnamed-%016x", directory, random);
  RAMET_ASSIGN_OR_RETURN(UniqueFd fd, sys::open(path, O_RDWR | O_CREAT | O_EXCL, kOwnerOnly));
  if (Status unlinked = sys::unlink(path); !unlinked.ok()) {
    sys::unlink(path).IgnoreError();  // once more: nobody else knows the name
    return unlinked;
  }
  return fd;
}

// EOPNOTSUPP and EINVAL come from file systems without O_TMPFILE, EISDIR from kernels without it.
bool lacks_tmpfile(int error) { return error == EOPNOTSUPP || error == EINVAL || error == EISDIR; }

StatusOr<UniqueFd> open_unnamed(const std::string& directory) {
  const sys::Result opened = sys::invoke(sys::Call::kOpen, sys::OnEintr::kRetry, [&] {
    return ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kOwnerOnly);
  });
  if (opened.ok()) {
    return UniqueFd(static_cast<int>(opened.value));
  }
  if (lacks_tmpfile(opened.error)) {
    return open_and_unlink(directory);
  }
  return opened.status("make a file in %s", directory);
}

}  // namespace

StatusOr<UniqueFd> create_unnamed_file(const std::string& directory, uint64_t size) {
  RAMET_ASSIGN_OR_RETURN(UniqueFd fd, open_unnamed(directory));
  RAMET_RETURN_IF_ERROR(sys::ftruncate(
      fd.get(), size, absl::StrFormat("size a file of %d bytes in %s", size, directory)));
  return fd;
}

}  // namespace ramet
