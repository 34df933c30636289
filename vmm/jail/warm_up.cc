#include "vmm/jail/warm_up.h"

#include <array>
#include <cstdlib>

namespace ramet::jail {
namespace {

// Below the size from which malloc maps each block by itself (M_MMAP_THRESHOLD, 128 KiB), and
// together beyond that from which free() gives memory back (M_TRIM_THRESHOLD, 128 KiB).
constexpr size_t kBlockBytes = 64 * 1024;
constexpr size_t kBlocks = 6;

}  // namespace

void warm_up_allocator() {
  std::array<void* volatile, kBlocks> blocks;  // volatile: not to be left out
  for (void* volatile& block : blocks) {
    block = std::malloc(kBlockBytes);
  }
  for (void* volatile& block : blocks) {
    std::free(block);
  }
}

}  // namespace ramet::jail
