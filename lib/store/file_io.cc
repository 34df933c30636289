#include "lib/store/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet {

StatusOr<UniqueFd> open_member(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  // O_NONBLOCK: a FIFO in the place of a file must not hold us up.
  auto fd = sys::open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (absl::IsNotFound(fd.status())) {
    return absl::DataLossError(absl::StrFormat("%s is missing", path));
  }
  // ELOOP: a link. ENXIO: a socket. ENOTDIR: the folder is a file.
  if (absl::IsInvalidArgument(fd.status()) || absl::IsFailedPrecondition(fd.status())) {
    return absl::DataLossError(
        absl::StrFormat("%s is no regular file: %s", path, std::string(fd.status().message())));
  }
  RAMET_RETURN_IF_ERROR(fd.status());
  struct stat info = {};
  RAMET_RETURN_IF_ERROR(sys::fstat(fd->get(), &info).status("fstat " + path));
  if (!S_ISREG(info.st_mode)) {
    return absl::DataLossError(absl::StrFormat("%s is no regular file", path));
  }
  return fd;
}

StatusOr<std::vector<std::byte>> read_member(const std::string& directory, const std::string& name,
                                             size_t limit) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, open_member(directory, name));
  RAMET_ASSIGN_OR_RETURN(const uint64_t size, sys::file_size(fd.get(), name));
  if (size > limit) {
    return absl::DataLossError(
        absl::StrFormat("%s: %d bytes, more than the limit of %d", name, size, limit));
  }
  std::vector<std::byte> bytes(size);
  RAMET_RETURN_IF_ERROR(sys::pread_exactly(fd.get(), bytes, 0, "read " + name));
  return bytes;
}

StatusOr<UniqueFd> create_member(const std::string& directory, const std::string& name) {
  return sys::open(directory + "/" + name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
}

Status write_member(const std::string& directory, const std::string& name,
                    std::span<const std::byte> bytes) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, create_member(directory, name));
  RAMET_RETURN_IF_ERROR(sys::pwrite_all(fd.get(), bytes, 0, "write " + name));
  return sys::fsync(fd.get(), "sync " + name);
}

Status as_data_loss(const Status& status, const std::string& what) {
  return status.ok()
             ? status
             : absl::DataLossError(absl::StrFormat("%s: %s", what, std::string(status.message())));
}

Status for_pieces(uint64_t offset, uint64_t size, uint64_t step,
                  const std::function<Status(uint64_t offset, uint64_t size)>& piece) {
  for (uint64_t done = 0; done < size;) {
    const uint64_t now = std::min(step, size - done);
    RAMET_RETURN_IF_ERROR(piece(offset + done, now));
    done += now;
  }
  return Status();
}

}  // namespace ramet
