// Small things about pages and runs of them that the makers of images share.
//
// Thread rule: pure functions.
#ifndef RAMET_VMM_MEMORY_PAGE_RUNS_H_
#define RAMET_VMM_MEMORY_PAGE_RUNS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "vmm/memory/extent.h"
#include "vmm/memory/mapping.h"

namespace ramet {

inline bool is_zero_page(const std::byte* page) {
  // A page is zero when its first byte is and every byte equals the one before it.
  return page[0] == std::byte{0} && std::memcmp(page, page + 1, kPageSize - 1) == 0;
}

// Behind the last of them, of which it may be the continuation.
inline void append_extent(std::vector<Extent>* extents, Extent extent) {
  if (!extents->empty() && extents->back().end() == extent.offset) {
    extents->back().size += extent.size;
  } else if (extent.size != 0) {
    extents->push_back(extent);
  }
}

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_PAGE_RUNS_H_
