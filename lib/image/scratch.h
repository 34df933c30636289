// make_scratch_image: an empty ext4 file system in a sparse file: the scratch disk that holds a
// guest's overlay.
//
// Thread rule: free function, call from anywhere; blocks for one run of mke2fs.
// Invariant: the file appears under its name complete, or not at all; the same size gives the same
// bytes.
#ifndef RAMET_LIB_IMAGE_SCRATCH_H_
#define RAMET_LIB_IMAGE_SCRATCH_H_

#include <cstdint>
#include <string>

#include "vmm/base/status.h"

namespace ramet {

inline constexpr uint64_t kMinScratchBytes = uint64_t{16} * 1024 * 1024;
inline constexpr uint64_t kMaxScratchBytes = uint64_t{1} << 40;
inline constexpr uint64_t kScratchBlockBytes = 4096;

// InvalidArgument for a size outside the limits or not a multiple of a block, NotFound when mke2fs
// is not installed, ResourceExhausted when the disk is full. An existing file is replaced.
Status make_scratch_image(const std::string& path, uint64_t bytes);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_SCRATCH_H_
