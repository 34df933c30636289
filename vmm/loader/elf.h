// ElfImage: the loadable segments and the entry of an ELF kernel (vmlinux), checked.
//
// Thread rule: pure functions; the result borrows the input's bytes.
// Invariant: every span of an ElfImage lies inside the input; segments are sorted by address and do
// not overlap; the entry lies in the bytes of an executable one.
#ifndef RAMET_VMM_LOADER_ELF_H_
#define RAMET_VMM_LOADER_ELF_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

struct ElfSegment {
  uint64_t address = 0;              // physical (p_paddr)
  uint64_t memory_size = 0;          // at least bytes.size(); address + memory_size fits 64 bits
  std::span<const std::byte> bytes;  // the rest up to memory_size is zero
};

struct ElfImage {
  uint64_t entry = 0;  // physical
  std::vector<ElfSegment> segments;
};

inline constexpr size_t kMaxElfProgramHeaders = 64;

// Whether the file begins with the ELF magic.
bool looks_like_elf(std::span<const std::byte> file);

// InvalidArgument where the file is not an executable ELF64 for little-endian x86-64 or contradicts
// itself; DataLoss where it is shorter than it says.
StatusOr<ElfImage> parse_elf(std::span<const std::byte> file);

}  // namespace ramet

#endif  // RAMET_VMM_LOADER_ELF_H_
