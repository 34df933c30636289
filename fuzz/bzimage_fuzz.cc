// parse_bzimage: whatever it accepts keeps the invariants of bzimage.h.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/loader/bzimage.h"

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
  const auto image = ramet::parse_bzimage(file);
  if (!image.ok()) {
    require(!image.status().message().empty());
    return 0;
  }
  require(ramet::looks_like_bzimage(file));
  require(inside(image->setup_header, file));
  require(image->setup_header.data() == file.data() + 0x1F1);
  require(image->setup_header.size() >= 0x264 - 0x1F1);
  require(inside(image->payload, file));
  require(image->payload.size() > ramet::kBzImageEntryOffset);
  require(image->payload.size() % 16 == 0);
  require(image->version >= 0x020C);
  require(std::has_single_bit(image->kernel_alignment));
  require(image->init_size > 0);
  require(image->cmdline_size > 0);
  return 0;
}
