// Extent: a run of pages of a memory image.
//
// Thread rule: plain values.
#ifndef RAMET_VMM_MEMORY_EXTENT_H_
#define RAMET_VMM_MEMORY_EXTENT_H_

#include <cstdint>

namespace ramet {

// `size` bytes at `offset`, both multiples of the page size.
struct Extent {
  uint64_t offset = 0;
  uint64_t size = 0;

  constexpr uint64_t end() const { return offset + size; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_EXTENT_H_
