#include "vmm/jail/warm_up.h"

#include <cstdlib>

namespace ramet::jail {
namespace {

// Each below the size from which malloc maps a block by itself (M_MMAP_THRESHOLD, 128 KiB);
// together more than free() keeps at the end of an arena (M_TOP_PAD and M_TRIM_THRESHOLD, 128 KiB
// each), and little more: growing and giving back is the cost of a new thread. Freeing a block of
// 64 KiB or more is what makes it look (FREE_CONSOLIDATION_THRESHOLD).
constexpr size_t kFirstBytes = 24 * 1024;
constexpr size_t kLastBytes = 120 * 1024;

}  // namespace

void warm_up_allocator() {
  void* volatile first = std::malloc(kFirstBytes);  // volatile: not to be left out
  void* volatile last = std::malloc(kLastBytes);
  std::free(first);
  std::free(last);
}

}  // namespace ramet::jail
