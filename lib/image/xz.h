// Unpacking of .xz files, as kernel modules come.
//
// Thread rule: pure function.
// Invariant: output is at most the stated limit, working memory at most kXzMemoryBytes.
#ifndef RAMET_LIB_IMAGE_XZ_H_
#define RAMET_LIB_IMAGE_XZ_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

inline constexpr uint64_t kXzMemoryBytes = uint64_t{128} * 1024 * 1024;

// DataLoss when it is no whole .xz stream, ResourceExhausted beyond either limit.
StatusOr<std::vector<std::byte>> unpack_xz(std::span<const std::byte> packed, size_t max_bytes);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_XZ_H_
