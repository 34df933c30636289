#include "lib/core/root_disk.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <absl/strings/str_format.h>

#include "lib/instance/reasons.h"
#include "vmm/base/syscall.h"
#include "vmm/state/digest.h"

namespace ramet {
namespace {

constexpr size_t kReadBytes = 1 << 20;

StatusOr<uint64_t> digest_file(int fd, uint64_t size, const std::string& what) {
  Digest digest;
  std::vector<std::byte> buffer(kReadBytes);
  for (uint64_t offset = 0; offset < size;) {
    const auto part =
        std::span(buffer).first(static_cast<size_t>(std::min<uint64_t>(kReadBytes, size - offset)));
    RAMET_RETURN_IF_ERROR(sys::pread_exactly(fd, part, offset, what));
    digest.update(part);
    offset += part.size();
  }
  return digest.value();
}

StatusOr<RootDisk> open_and_digest(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrFormat("root image %s: %s", path, error.message()));
  }
  RootDisk disk;
  RAMET_ASSIGN_OR_RETURN(disk.file, block::DiskFile::open(path, block::Access::kReadOnly));
  disk.reference.path = absolute.string();
  disk.reference.size = disk.file->size_bytes();
  RAMET_ASSIGN_OR_RETURN(disk.reference.digest, digest_file(disk.file->fd(), disk.reference.size,
                                                            "read root image " + path));
  return disk;
}

}  // namespace

StatusOr<RootDisk> open_root_disk(const std::string& path) {
  if (path.empty()) {
    return RootDisk{};
  }
  auto disk = open_and_digest(path);
  if (!disk.ok()) {
    return with_reason(annotate(disk.status(), "root image"), reason::kBadImage);
  }
  return disk;
}

StatusOr<RootDisk> reopen_root_disk(const RootReference& wanted, const std::string& path) {
  if (wanted.path.empty()) {
    return RootDisk{};
  }
  const std::string& where = path.empty() ? wanted.path : path;
  RAMET_ASSIGN_OR_RETURN(RootDisk disk, open_root_disk(where));
  if (disk.reference.size != wanted.size || disk.reference.digest != wanted.digest) {
    return with_reason(
        absl::FailedPreconditionError(absl::StrFormat(
            "root image %s is not the one the template was built on: %d bytes with digest %016x "
            "found, %d bytes with digest %016x wanted; put the old one back, or build anew",
            where, disk.reference.size, disk.reference.digest, wanted.size, wanted.digest)),
        reason::kBadImage);
  }
  return disk;
}

}  // namespace ramet
