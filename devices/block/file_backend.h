// DiskFile owns an open disk image; FileBackend is a disk that is exactly such a file.
//
// Thread rule: DiskFile is immutable, share it freely: one descriptor serves every machine.
// FileBackend as Backend.
// Invariant: the file is read and written, never mapped, so that one who truncates it causes
// VIRTIO_BLK_S_IOERR and not a signal.
#ifndef RAMET_DEVICES_BLOCK_FILE_BACKEND_H_
#define RAMET_DEVICES_BLOCK_FILE_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>

#include "devices/block/backend.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet::block {

enum class Access : uint8_t { kReadOnly, kReadWrite };

class DiskFile {
 public:
  // Opens the image at `path`. InvalidArgument when it is smaller than one sector; a last part of a
  // sector is not part of the disk.
  static StatusOr<std::shared_ptr<const DiskFile>> open(const std::string& path, Access access);
  // Takes over `fd`; `name` stands for it in messages.
  static StatusOr<std::shared_ptr<const DiskFile>> adopt(UniqueFd fd, const std::string& name,
                                                         Access access);

  int fd() const { return fd_.get(); }
  uint64_t size_bytes() const { return size_; }
  Access access() const { return access_; }

 private:
  DiskFile(UniqueFd fd, uint64_t size, Access access)
      : fd_(std::move(fd)), size_(size), access_(access) {}

  const UniqueFd fd_;
  const uint64_t size_;
  const Access access_;
};

class FileBackend final : public Backend {
 public:
  explicit FileBackend(std::shared_ptr<const DiskFile> file) : file_(std::move(file)) {}

  uint64_t size_bytes() const override { return file_->size_bytes(); }
  bool read_only() const override { return file_->access() == Access::kReadOnly; }
  Status read(uint64_t offset, uint64_t bytes, virtio::Writer* into) override;
  Status write(uint64_t offset, uint64_t bytes, virtio::Reader* from) override;
  Status write_zeroes(uint64_t offset, uint64_t bytes) override;
  Status discard(uint64_t offset, uint64_t bytes) override { return write_zeroes(offset, bytes); }
  Status flush() override;

 private:
  const std::shared_ptr<const DiskFile> file_;
};

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_FILE_BACKEND_H_
