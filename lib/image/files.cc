#include "lib/image/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

using sys::Call;
using sys::OnEintr;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

StatusOr<FileInfo> info_at(const std::string& path, int flags) {
  struct stat info = {};
  const sys::Result result = sys::invoke(Call::kStat, OnEintr::kRetry, [&] {
    return ::fstatat(AT_FDCWD, path.c_str(), &info, flags);
  });
  if (!result.ok()) {
    return result.status("stat %s", path);
  }
  return FileInfo{info.st_mode, info.st_uid, info.st_gid, static_cast<uint64_t>(info.st_size)};
}

}  // namespace

StatusOr<FileInfo> link_info(const std::string& path) { return info_at(path, AT_SYMLINK_NOFOLLOW); }

StatusOr<FileInfo> file_info(const std::string& path) { return info_at(path, 0); }

bool is_folder(const std::string& path) {
  const auto info = file_info(path);
  return info.ok() && S_ISDIR(info->mode);
}

bool is_regular_file(const std::string& path) {
  const auto info = file_info(path);
  return info.ok() && S_ISREG(info->mode);
}

StatusOr<std::vector<std::string>> list_folder(const std::string& path) {
  std::unique_ptr<DIR, CloseFolder> folder;
  const sys::Result opened = sys::invoke(Call::kOpen, OnEintr::kRetry, [&] {
    folder.reset(::opendir(path.c_str()));
    return folder == nullptr ? -1 : 0;
  });
  if (!opened.ok()) {
    return opened.status("list %s", path);
  }
  std::vector<std::string> names;
  while (true) {
    const dirent* entry = nullptr;
    const sys::Result read = sys::invoke(Call::kRead, OnEintr::kRetry, [&] {
      errno = 0;
      // NOLINTNEXTLINE(concurrency-mt-unsafe): readdir(3) is safe on a stream of our own
      entry = ::readdir(folder.get());
      return entry == nullptr && errno != 0 ? -1 : 0;
    });
    if (!read.ok()) {
      return read.status("list %s", path);
    }
    if (entry == nullptr) {
      break;
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      names.emplace_back(name);
    }
  }
  std::ranges::sort(names);
  return names;
}

StatusOr<std::vector<std::byte>> read_whole_file(const std::string& path, uint64_t max_bytes) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, sys::open(path, O_RDONLY | O_NONBLOCK));
  struct stat info = {};
  RAMET_RETURN_IF_ERROR(sys::fstat(fd.get(), &info).status("stat %s", path));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is no regular file", path));
  }
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s has %d bytes, at most %d are read", path, size, max_bytes));
  }
  std::vector<std::byte> bytes(size);
  RAMET_RETURN_IF_ERROR(sys::read_exactly(fd.get(), bytes, absl::StrFormat("read %s", path)));
  return bytes;
}

StatusOr<std::string> read_text_file(const std::string& path, uint64_t max_bytes) {
  RAMET_ASSIGN_OR_RETURN(const auto bytes, read_whole_file(path, max_bytes));
  std::string text(bytes.size(), '\0');
  std::ranges::transform(bytes, text.begin(), [](std::byte b) { return static_cast<char>(b); });
  return text;
}

StatusOr<std::string> read_link(const std::string& path) {
  std::array<char, PATH_MAX> target;
  const sys::Result result = sys::invoke(Call::kStat, OnEintr::kRetry, [&] {
    return ::readlink(path.c_str(), target.data(), target.size());
  });
  if (!result.ok()) {
    return result.status("read the link %s", path);
  }
  return std::string(target.data(), static_cast<size_t>(result.value));
}

StatusOr<std::string> resolve_path(const std::string& path) {
  std::array<char, PATH_MAX> resolved = {};
  const sys::Result result = sys::invoke(Call::kStat, OnEintr::kRetry, [&] {
    return ::realpath(path.c_str(), resolved.data()) == nullptr ? -1 : 0;
  });
  RAMET_RETURN_IF_ERROR(result.status("find %s", path));
  return std::string(resolved.data());
}

std::string without_end_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  return path;
}

}  // namespace ramet
