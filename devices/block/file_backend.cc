#include "devices/block/file_backend.h"

#include <fcntl.h>

#include <absl/strings/str_format.h>

#include "devices/block/abi.h"
#include "vmm/base/syscall.h"

namespace ramet::block {
namespace {

Status check_progress(const sys::Result& result, const char* what, uint64_t offset) {
  if (!result.ok()) {
    return result.status("%s disk file at %d", what, offset);
  }
  if (result.value == 0) {
    return absl::DataLossError(absl::StrFormat("%s disk file at %d: the file ends", what, offset));
  }
  return Status();
}

}  // namespace

Status transfer_from_file(int fd, uint64_t offset, uint64_t bytes, virtio::Writer* into) {
  for (uint64_t done = 0; done < bytes;) {
    const virtio::Slices slices = into->peek(bytes - done);
    const sys::Result result = into->memory().read_from_file(fd, offset + done, slices);
    RAMET_RETURN_IF_ERROR(check_progress(result, "read", offset + done));
    into->skip(static_cast<uint64_t>(result.value));
    done += static_cast<uint64_t>(result.value);
  }
  return Status();
}

Status transfer_to_file(int fd, uint64_t offset, uint64_t bytes, virtio::Reader* from) {
  for (uint64_t done = 0; done < bytes;) {
    const virtio::Slices slices = from->peek(bytes - done);
    const sys::Result result = from->memory().write_to_file(fd, offset + done, slices);
    RAMET_RETURN_IF_ERROR(check_progress(result, "write", offset + done));
    from->skip(static_cast<uint64_t>(result.value));
    done += static_cast<uint64_t>(result.value);
  }
  return Status();
}

StatusOr<std::shared_ptr<const DiskFile>> DiskFile::open(const std::string& path, Access access) {
  // O_NONBLOCK: a FIFO in place of an image must not hold the caller up.
  const int flags = (access == Access::kReadOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK;
  RAMET_ASSIGN_OR_RETURN(UniqueFd fd, sys::open(path, flags));
  return adopt(std::move(fd), path, access);
}

StatusOr<std::shared_ptr<const DiskFile>> DiskFile::adopt(UniqueFd fd, const std::string& name,
                                                          Access access) {
  RAMET_ASSIGN_OR_RETURN(const uint64_t size, sys::file_size(fd.get(), "stat " + name));
  if (size < kSectorBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "disk image %s: %d bytes, a disk has at least one sector of %d", name, size, kSectorBytes));
  }
  return std::shared_ptr<const DiskFile>(
      new DiskFile(std::move(fd), size / kSectorBytes * kSectorBytes, access));
}

Status FileBackend::read(uint64_t offset, uint64_t bytes, virtio::Writer* into) {
  return transfer_from_file(file_->fd(), offset, bytes, into);
}

Status FileBackend::write(uint64_t offset, uint64_t bytes, virtio::Reader* from) {
  return transfer_to_file(file_->fd(), offset, bytes, from);
}

Status FileBackend::write_zeroes(uint64_t offset, uint64_t bytes) {
  return sys::punch_hole(file_->fd(), offset, bytes);
}

Status FileBackend::flush() {
  return read_only() ? Status() : sys::fsync(file_->fd(), "flush a disk file");
}

}  // namespace ramet::block
