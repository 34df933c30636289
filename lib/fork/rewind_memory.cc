#include "lib/fork/rewind_memory.h"

#include <cstddef>
#include <span>
#include <vector>

namespace ramet {
namespace {

// The next run touches them again, by and large, and to write a page over costs a small part of
// dropping it and having the guest fault it in. More than this is one run's own doing.
bool are_few(std::span<const PageRange> pages, const WorkingSet& set) {
  return pages_in(pages) <= pages_in(set.written) / 2;
}

}  // namespace

StatusOr<WorkingSet> rewind_memory(const GuestMemory& memory, const MemoryImage& image,
                                   const WorkingSet& set, const Pagemap& pagemap) {
  RAMET_ASSIGN_OR_RETURN(const auto own, pagemap.private_pages(memory));
  const std::vector<PageRange> others = without(own, set.written);
  const std::vector<PageRange> stay = are_few(others, set) ? own : common(own, set.written);
  const std::vector<PageRange> dropped = without(own, stay);
  RAMET_RETURN_IF_ERROR(memory.drop_private(dropped));
  RAMET_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, image.bytes());
  memory.fill_pages(stay, bytes);
  return WorkingSet{.written = without(set.written, stay), .read = common(set.read, dropped)};
}

}  // namespace ramet
