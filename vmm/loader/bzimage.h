// BzImage: the parts of a Linux bzImage file that a loader needs, checked
// (Documentation/arch/x86/boot.rst).
//
// Thread rule: pure functions; the result borrows the input's bytes.
// Invariant: every span of a BzImage lies inside the input, and its numbers keep the bounds stated
// at each field.
#ifndef RAMET_VMM_LOADER_BZIMAGE_H_
#define RAMET_VMM_LOADER_BZIMAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/base/status.h"

namespace ramet {

struct BzImage {
  uint16_t version = 0;                     // boot protocol, 0x020C or later
  std::span<const std::byte> setup_header;  // from file offset 0x1F1; reaches past init_size
  std::span<const std::byte> payload;       // the protected-mode kernel; never empty
  uint64_t pref_address = 0;
  uint32_t init_size = 0;         // bytes of memory it needs from its load address on; never 0
  uint32_t kernel_alignment = 0;  // a power of two
  uint32_t initrd_addr_max = 0;   // highest address that the initrd's last byte may have
  uint32_t cmdline_size = 0;      // longest command line, without its terminating NUL; never 0
  bool relocatable = false;
};

// The 64-bit entry is this far into the loaded payload.
inline constexpr uint64_t kBzImageEntryOffset = 0x200;

// Whether the file carries the setup header's magic ("HdrS" at 0x202).
bool looks_like_bzimage(std::span<const std::byte> file);

// InvalidArgument where the file is not a bzImage with a 64-bit entry; DataLoss where it is shorter
// than it says.
StatusOr<BzImage> parse_bzimage(std::span<const std::byte> file);

}  // namespace ramet

#endif  // RAMET_VMM_LOADER_BZIMAGE_H_
