#include "lib/fork/rewind_memory.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace ramet {
namespace {

constexpr uint64_t kPagesAtOnce = 16;

Status write_over(const GuestMemory& memory, const MemoryImage& image,
                  std::span<const PageRange> pages) {
  std::vector<std::byte> buffer(kPagesAtOnce * kPageSize);
  for (const PageRange& range : pages) {
    for (uint64_t done = 0; done < range.count;) {
      const PageRange now = {range.first + done, std::min(range.count - done, kPagesAtOnce)};
      const auto bytes = std::span(buffer).first(now.count * kPageSize);
      RAMET_RETURN_IF_ERROR(image.read(now.first * kPageSize, bytes));
      RAMET_RETURN_IF_ERROR(memory.write_pages(now, bytes));
      done += now.count;
    }
  }
  return Status();
}

}  // namespace

StatusOr<WorkingSet> rewind_memory(const GuestMemory& memory, const MemoryImage& image,
                                   const WorkingSet& set, const Pagemap& pagemap) {
  RAMET_ASSIGN_OR_RETURN(const WorkingSet there, pagemap.touched(memory));
  const std::vector<PageRange> stay = common(there.written, set.written);
  RAMET_RETURN_IF_ERROR(memory.drop_private(without(there.written, stay)));
  RAMET_RETURN_IF_ERROR(write_over(memory, image, stay));
  return WorkingSet{.written = without(set.written, stay), .read = without(set.read, there.read)};
}

}  // namespace ramet
