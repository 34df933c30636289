#include "vmm/memory/changed_pages.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace ramet {
namespace {

StatusOr<bool> is_changed(const GuestMemory& memory, std::span<const std::byte> was,
                          uint64_t page) {
  const PageRange one = {page, 1};
  for (const GuestSlice& slice : memory.slices_of({&one, 1})) {
    std::array<std::byte, kPageSize> is;
    RAMET_RETURN_IF_ERROR(memory.read(slice.start, is));
    return !std::ranges::equal(is, was.subspan(page * kPageSize, kPageSize));
  }
  return false;
}

}  // namespace

StatusOr<uint64_t> count_changed(const GuestMemory& memory, const MemoryImage& image,
                                 std::span<const PageRange> pages) {
  RAMET_ASSIGN_OR_RETURN(const std::span<const std::byte> was, image.bytes());
  uint64_t changed = 0;
  for (const PageRange& range : pages) {
    for (uint64_t i = 0; i < range.count; ++i) {
      RAMET_ASSIGN_OR_RETURN(const bool is, is_changed(memory, was, range.first + i));
      changed += is ? 1 : 0;
    }
  }
  return changed;
}

}  // namespace ramet
