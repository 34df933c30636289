#include "vmm/jail/warm_up.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace ramet::jail {
namespace {

// Each below the size from which malloc maps a block by itself (M_MMAP_THRESHOLD, 128 KiB);
// together more than free() keeps at the end of an arena (M_TOP_PAD and M_TRIM_THRESHOLD, 128 KiB
// each), and little more: growing and giving back is the cost of a new thread. Freeing a block of
// 64 KiB or more is what makes it look (FREE_CONSOLIDATION_THRESHOLD).
constexpr size_t kFirstBytes = 24 * 1024;
constexpr size_t kLastBytes = 120 * 1024;

// Not so much that free() looks whether to give it back.
constexpr size_t kRoomBytes = 60 * 1024;

// The main arena grows by brk(2), and lies where that ends; all others are mapped elsewhere.
bool is_of_main_arena(const void* block) {
  constexpr uintptr_t kNear = uintptr_t{1} << 36;
  const auto end = reinterpret_cast<uintptr_t>(::sbrk(0));
  const auto at = reinterpret_cast<uintptr_t>(block);
  return at < end && end - at < kNear;
}

}  // namespace

bool warm_up_allocator() {
  void* volatile first = std::malloc(kFirstBytes);  // volatile: not to be left out
  void* volatile last = std::malloc(kLastBytes);
  const bool whole = first != nullptr && last != nullptr && !is_of_main_arena(first);
  std::free(first);
  std::free(last);
  return whole;
}

void make_allocator_room() {
  void* volatile room = std::malloc(kRoomBytes);
  std::free(room);
}

}  // namespace ramet::jail
