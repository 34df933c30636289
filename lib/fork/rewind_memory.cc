#include "lib/fork/rewind_memory.h"

#include <cstddef>
#include <span>
#include <vector>

namespace ramet {

StatusOr<WorkingSet> rewind_memory(const GuestMemory& memory, const MemoryImage& image,
                                   const WorkingSet& set, const Pagemap& pagemap) {
  RAMET_ASSIGN_OR_RETURN(const auto own, pagemap.private_pages(memory));
  const std::vector<PageRange> stay = common(own, set.written);
  const std::vector<PageRange> dropped = without(own, stay);
  RAMET_RETURN_IF_ERROR(memory.drop_private(dropped));
  RAMET_RETURN_IF_ERROR(memory.fill_pages(
      stay, [&](uint64_t offset, std::span<std::byte> into) { return image.read(offset, into); }));
  return WorkingSet{.written = without(set.written, stay), .read = common(set.read, dropped)};
}

}  // namespace ramet
