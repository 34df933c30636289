// A file without a name, which is gone when its last descriptor is.
//
// Thread rule: call from anywhere.
#ifndef RAMET_VMM_BASE_UNNAMED_FILE_H_
#define RAMET_VMM_BASE_UNNAMED_FILE_H_

#include <cstdint>
#include <string>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

// Open for reading and writing, `size` bytes of hole. O_TMPFILE where the file system of
// `directory` knows it (open(2)), else a random name that is unlinked at once. Errors of open and
// ftruncate, with what was asked.
StatusOr<UniqueFd> create_unnamed_file(const std::string& directory, uint64_t size);

}  // namespace ramet

#endif  // RAMET_VMM_BASE_UNNAMED_FILE_H_
