#include "vmm/memory/changed_pages.h"

#include <array>
#include <cstddef>

namespace ramet {
namespace {

using Page = std::array<std::byte, kPageSize>;

StatusOr<bool> is_changed(const GuestMemory& memory, const MemoryImage& image, uint64_t page) {
  const PageRange one = {page, 1};
  for (const GuestSlice& slice : memory.slices_of({&one, 1})) {
    Page is;
    Page was;
    RAMET_RETURN_IF_ERROR(memory.read(slice.start, is));
    RAMET_RETURN_IF_ERROR(image.read(page * kPageSize, was));
    return is != was;
  }
  return false;
}

}  // namespace

StatusOr<uint64_t> count_changed(const GuestMemory& memory, const MemoryImage& image,
                                 std::span<const PageRange> pages) {
  uint64_t changed = 0;
  for (const PageRange& range : pages) {
    for (uint64_t i = 0; i < range.count; ++i) {
      RAMET_ASSIGN_OR_RETURN(const bool is, is_changed(memory, image, range.first + i));
      changed += is ? 1 : 0;
    }
  }
  return changed;
}

}  // namespace ramet
