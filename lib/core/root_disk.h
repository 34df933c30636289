// The root disk's image: opened, checked, and told apart from every other file.
//
// Thread rule: free functions.
// Invariant: the digest is of the bytes that the returned file gives.
#ifndef RAMET_LIB_CORE_ROOT_DISK_H_
#define RAMET_LIB_CORE_ROOT_DISK_H_

#include <memory>
#include <string>

#include "devices/block/file_backend.h"
#include "lib/core/template_data.h"
#include "vmm/base/status.h"

namespace ramet {

struct RootDisk {
  std::shared_ptr<const block::DiskFile> file;  // null for an empty path
  RootReference reference;
};

// Opens and digests the image at `path`. Reason bad_image where it is missing, empty or unreadable.
StatusOr<RootDisk> open_root_disk(const std::string& path);

// The image that `wanted` names, now at `path` (empty: where it was). FailedPrecondition with
// reason bad_image when it is another file.
StatusOr<RootDisk> reopen_root_disk(const RootReference& wanted, const std::string& path);

}  // namespace ramet

#endif  // RAMET_LIB_CORE_ROOT_DISK_H_
