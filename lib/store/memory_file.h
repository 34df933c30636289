// memory.bin: a template's memory as a sparse file, and the section that says which ranges of it
// hold something.
//
// Thread rule: free functions.
// Invariant: what is loaded is exactly what was saved, range by range, or DataLoss. Loading
// allocates memory for pages that are not zero only.
#ifndef RAMET_LIB_STORE_MEMORY_FILE_H_
#define RAMET_LIB_STORE_MEMORY_FILE_H_

#include <memory>
#include <string>

#include "vmm/base/status.h"
#include "vmm/memory/memory_image.h"
#include "vmm/state/sections.h"

namespace ramet {

inline constexpr char kMemorySection[] = "memory";

// Writes and syncs directory/memory.bin.
StatusOr<Section> save_memory(const MemoryImage& memory, const std::string& directory);
StatusOr<std::shared_ptr<const MemoryImage>> load_memory(std::span<const Section> sections,
                                                         const std::string& directory);

// `extents` with gaps closed, the smallest first, until there are at most `limit`
// (1 or more).
std::vector<Extent> coalesce(std::vector<Extent> extents, size_t limit);

}  // namespace ramet

#endif  // RAMET_LIB_STORE_MEMORY_FILE_H_
