#include "lib/image/cpio.h"

#include <sys/stat.h>

#include <utility>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

constexpr size_t kHeaderBytes = 110;
constexpr size_t kFieldAlignment = 4;
constexpr size_t kArchiveAlignment = 512;
constexpr std::string_view kTrailer = "TRAILER!!!";

bool is_plain_path(std::string_view path) {
  if (path.empty() || path.size() > kMaxArchivePathBytes ||
      path.find('\0') != std::string_view::npos) {
    return false;
  }
  while (true) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || part == "." || part == "..") {
      return false;
    }
    if (slash == std::string_view::npos) {
      return true;
    }
    path.remove_prefix(slash + 1);
  }
}

}  // namespace

Status CpioWriter::add_folder(const std::string& path, uint32_t permissions, CpioOwner owner) {
  if (folders_.contains(path)) {
    return Status();
  }
  return add(path, {S_IFDIR | permissions, owner, 0, 0, {}});
}

Status CpioWriter::add_file(const std::string& path, std::span<const std::byte> content,
                            uint32_t permissions, CpioOwner owner) {
  return add(path, {S_IFREG | permissions, owner, 0, 0, content});
}

Status CpioWriter::add_link(const std::string& path, std::string_view target, CpioOwner owner) {
  return add(path, {S_IFLNK | 0777, owner, 0, 0, std::as_bytes(std::span(target))});
}

Status CpioWriter::add_character_device(const std::string& path, uint32_t major, uint32_t minor,
                                        uint32_t permissions) {
  return add(path, {S_IFCHR | permissions, {}, major, minor, {}});
}

Status CpioWriter::add(const std::string& path, const Entry& entry) {
  if (!is_plain_path(path)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("initramfs: \"%s\" is no plain relative path", path));
  }
  if (folders_.contains(path) || others_.contains(path)) {
    return absl::InvalidArgumentError(absl::StrFormat("initramfs: %s is added twice", path));
  }
  RAMET_RETURN_IF_ERROR(add_parents(path));
  const size_t most = kHeaderBytes + path.size() + 2 * kFieldAlignment + kArchiveAlignment;
  if (entry.content.size() > kMaxArchiveBytes ||
      archive_.size() + most + entry.content.size() > kMaxArchiveBytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("initramfs: %d bytes and %s with %d more exceed the limit of %d",
                        archive_.size(), path, entry.content.size(), kMaxArchiveBytes));
  }
  (S_ISDIR(entry.mode) ? folders_ : others_).insert(path);
  append(path, entry);
  return Status();
}

Status CpioWriter::add_parents(const std::string& path) {
  for (size_t slash = path.find('/'); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    RAMET_RETURN_IF_ERROR(add_folder(path.substr(0, slash)));
  }
  return Status();
}

void CpioWriter::append(std::string_view path, const Entry& entry) {
  const uint32_t links = S_ISDIR(entry.mode) ? 2 : 1;
  // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
  // namesize with its NUL, check
  const std::string header =
      absl::StrFormat("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", next_inode_++,
                      entry.mode, entry.owner.uid, entry.owner.gid, links, 0, entry.content.size(),
                      0, 0, entry.major, entry.minor, path.size() + 1, 0);
  const auto put = [this](std::span<const std::byte> bytes) {
    archive_.insert(archive_.end(), bytes.begin(), bytes.end());
  };
  put(std::as_bytes(std::span(header)));
  put(std::as_bytes(std::span(path)));
  archive_.push_back(std::byte{0});
  pad(kFieldAlignment);
  put(entry.content);
  pad(kFieldAlignment);
}

void CpioWriter::pad(size_t alignment) {
  archive_.resize((archive_.size() + alignment - 1) / alignment * alignment);
}

std::vector<std::byte> CpioWriter::finish() {
  next_inode_ = 0;
  append(kTrailer, {});
  pad(kArchiveAlignment);
  folders_.clear();
  others_.clear();
  next_inode_ = 1;
  return std::exchange(archive_, {});
}

}  // namespace ramet
