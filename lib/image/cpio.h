// CpioWriter: an initramfs archive in the "newc" format (Linux:
// Documentation/driver-api/early-userspace/buffer-format.rst).
//
// Thread rule: one thread.
// Invariant: the same entries in the same order give the same bytes on every host: no clock, no
// inode number and no owner of the host gets in but those that the caller states. Every folder
// stands before what is in it, as the kernel's unpacker needs it.
#ifndef RAMET_LIB_IMAGE_CPIO_H_
#define RAMET_LIB_IMAGE_CPIO_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

// The whole archive; also what a guest may be asked to unpack into its memory.
inline constexpr size_t kMaxArchiveBytes = size_t{512} * 1024 * 1024;
inline constexpr size_t kMaxArchivePathBytes = 4095;

struct CpioOwner {
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// Paths are relative, without "." and ".." ("ramet/modules"). Missing parent folders are added with
// mode 0755. InvalidArgument for a path that is not of that kind or was added before as something
// else than a folder, ResourceExhausted when the archive would exceed kMaxArchiveBytes.
class CpioWriter {
 public:
  Status add_folder(const std::string& path, uint32_t permissions = 0755, CpioOwner owner = {});
  Status add_file(const std::string& path, std::span<const std::byte> content,
                  uint32_t permissions = 0644, CpioOwner owner = {});
  Status add_link(const std::string& path, std::string_view target, CpioOwner owner = {});
  Status add_character_device(const std::string& path, uint32_t major, uint32_t minor,
                              uint32_t permissions);

  // The archive with its trailer, padded to 512 bytes. The writer is empty afterwards.
  std::vector<std::byte> finish();

 private:
  struct Entry {
    uint32_t mode = 0;
    CpioOwner owner;
    uint32_t major = 0;
    uint32_t minor = 0;
    std::span<const std::byte> content;
  };
  Status add(const std::string& path, const Entry& entry);
  Status add_parents(const std::string& path);
  void append(std::string_view path, const Entry& entry);
  void pad(size_t alignment);

  std::vector<std::byte> archive_;
  std::set<std::string> folders_;
  std::set<std::string> others_;
  uint32_t next_inode_ = 1;
};

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_CPIO_H_
