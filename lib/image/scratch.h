// make_scratch_image: an empty ext4 file system in a sparse file without a name: the scratch disk
// that holds a guest's overlay.
//
// Thread rule: free function, call from anywhere; blocks for one run of mke2fs.
// Invariant: nothing is left in the folder, whatever fails; the same size gives the same bytes.
#ifndef RAMET_LIB_IMAGE_SCRATCH_H_
#define RAMET_LIB_IMAGE_SCRATCH_H_

#include <cstdint>
#include <string>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

inline constexpr uint64_t kMinScratchBytes = uint64_t{16} * 1024 * 1024;
inline constexpr uint64_t kMaxScratchBytes = uint64_t{1} << 40;
inline constexpr uint64_t kScratchBlockBytes = 4096;

// The file, open for reading and writing, of exactly `bytes`. InvalidArgument for a size outside
// the limits or not a multiple of a block, Unimplemented when mke2fs is not installed,
// ResourceExhausted when the disk is full.
StatusOr<UniqueFd> make_scratch_image(const std::string& directory, uint64_t bytes);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_SCRATCH_H_
