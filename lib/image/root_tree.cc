#include "lib/image/root_tree.h"

#include <sys/stat.h>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "lib/image/files.h"

namespace ramet {
namespace {

constexpr uint32_t kPermissions = 07777;

Status add_folder_content(CpioWriter& writer, const std::string& folder, const std::string& inside,
                          size_t depth);

Status add_entry(CpioWriter& writer, const std::string& path, const std::string& inside,
                 size_t depth) {
  RAMET_ASSIGN_OR_RETURN(const FileInfo info, link_info(path));
  const CpioOwner owner{info.uid, info.gid};
  const uint32_t permissions = info.mode & kPermissions;
  if (S_ISDIR(info.mode)) {
    RAMET_RETURN_IF_ERROR(writer.add_folder(inside, permissions, owner));
    return add_folder_content(writer, path, inside + "/", depth + 1);
  }
  if (S_ISREG(info.mode)) {
    RAMET_ASSIGN_OR_RETURN(const auto bytes, read_whole_file(path, kMaxArchiveBytes));
    return writer.add_file(inside, bytes, permissions, owner);
  }
  if (S_ISLNK(info.mode)) {
    RAMET_ASSIGN_OR_RETURN(const std::string target, read_link(path));
    return writer.add_link(inside, target, owner);
  }
  return Status();
}

Status add_folder_content(CpioWriter& writer, const std::string& folder, const std::string& inside,
                          size_t depth) {
  if (depth > kMaxTreeDepth) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s is nested deeper than %d folders", folder, kMaxTreeDepth));
  }
  RAMET_ASSIGN_OR_RETURN(const auto names, list_folder(folder));
  for (const std::string& name : names) {
    RAMET_RETURN_IF_ERROR(add_entry(writer, absl::StrCat(folder, "/", name), inside + name, depth));
  }
  return Status();
}

}  // namespace

Status add_root_tree(CpioWriter& writer, const std::string& folder) {
  return annotate(add_folder_content(writer, without_end_slash(folder), "", 0), "root tree %s",
                  folder);
}

}  // namespace ramet
