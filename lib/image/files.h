// The file system as the image builders read it: whole files up to a limit, sorted listings, kinds.
//
// Thread rule: free functions, call from anywhere.
// Invariant: nothing larger than the stated limit is read.
#ifndef RAMET_LIB_IMAGE_FILES_H_
#define RAMET_LIB_IMAGE_FILES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

struct FileInfo {
  uint32_t mode = 0;  // S_IF* and permissions
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
};

// Of a link itself, not of what it points to. NotFound and the others of errno_status.
StatusOr<FileInfo> link_info(const std::string& path);
// Of what the path leads to.
StatusOr<FileInfo> file_info(const std::string& path);
bool is_folder(const std::string& path);
bool is_regular_file(const std::string& path);

// The names in a folder, sorted by bytes, without "." and "..".
StatusOr<std::vector<std::string>> list_folder(const std::string& path);
// ResourceExhausted beyond `max_bytes`, InvalidArgument when it is no regular file, NotFound and
// the others of errno_status.
StatusOr<std::vector<std::byte>> read_whole_file(const std::string& path, uint64_t max_bytes);
StatusOr<std::string> read_text_file(const std::string& path, uint64_t max_bytes);
StatusOr<std::string> read_link(const std::string& path);
// Absolute, with every link followed. NotFound where nothing is.
StatusOr<std::string> resolve_path(const std::string& path);

// `path` without slashes at its end, but for "/" itself.
std::string without_end_slash(std::string path);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_FILES_H_
