// parse_elf: whatever it accepts keeps the invariants of elf.h.
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/loader/elf.h"

namespace {

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

bool inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file = std::as_bytes(std::span(data, size));
  const auto image = ramet::parse_elf(file);
  if (!image.ok()) {
    require(!image.status().message().empty());
    return 0;
  }
  require(image->segments.size() <= ramet::kMaxElfProgramHeaders);
  bool entry_found = false;
  uint64_t end = 0;
  for (const ramet::ElfSegment& segment : image->segments) {
    require(inside(segment.bytes, file));
    require(segment.memory_size >= segment.bytes.size());
    require(segment.memory_size > 0);
    require(segment.address >= end);
    require(segment.address + segment.memory_size >= segment.address);
    end = segment.address + segment.memory_size;
    entry_found = entry_found || (image->entry >= segment.address &&
                                  image->entry - segment.address < segment.bytes.size());
  }
  require(entry_found);
  return 0;
}
