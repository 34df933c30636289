#include "lib/store/directory_writer.h"

#include <fcntl.h>

#include <array>
#include <filesystem>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

namespace fs = std::filesystem;

StatusOr<UniqueFd> open_directory(const std::string& path) {
  return sys::open(path, O_RDONLY | O_DIRECTORY);
}

}  // namespace

StatusOr<std::unique_ptr<DirectoryWriter>> DirectoryWriter::create(const std::string& path) {
  std::error_code error;
  fs::path wanted = fs::absolute(path, error).lexically_normal();
  if (!wanted.has_filename()) {
    wanted = wanted.parent_path();  // "dir/"
  }
  if (error || !wanted.has_filename()) {
    return absl::InvalidArgumentError(absl::StrFormat("\"%s\" is no name of a directory", path));
  }
  if (fs::exists(fs::symlink_status(wanted, error))) {
    return absl::AlreadyExistsError(
        absl::StrFormat("%s is there already; remove it or choose another name", path));
  }
  std::array<std::byte, 8> random;
  RAMET_RETURN_IF_ERROR(sys::getrandom(random));
  std::string suffix;
  for (const std::byte byte : random) {
    suffix += absl::StrFormat("%02x", std::to_integer<int>(byte));
  }
  const std::string parent = wanted.parent_path().string();
  const std::string temporary =
      absl::StrFormat("%s/.%s.tmp-%s", parent, wanted.filename().string(), suffix);
  RAMET_RETURN_IF_ERROR(sys::mkdir(temporary, 0755));
  return std::unique_ptr<DirectoryWriter>(new DirectoryWriter(wanted.string(), parent, temporary));
}

DirectoryWriter::~DirectoryWriter() {
  if (!committed_) {
    std::error_code error;
    fs::remove_all(temporary_, error);
  }
}

Status DirectoryWriter::commit() {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd written, open_directory(temporary_));
  RAMET_ASSIGN_OR_RETURN(const UniqueFd parent, open_directory(parent_));
  RAMET_RETURN_IF_ERROR(sys::fsync(written.get(), "sync directory " + temporary_));
  RAMET_RETURN_IF_ERROR(sys::rename_no_replace(temporary_, path_));
  Status synced = sys::fsync(parent.get(), "sync directory " + parent_);
  // An error says that nothing is there: the destructor removes what has its old name again.
  committed_ = synced.ok() || !sys::rename_no_replace(path_, temporary_).ok();
  return synced;
}

}  // namespace ramet
