// check_initrd: no input makes it crash or loop; place_initrd keeps to its bounds.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "vmm/loader/initrd.h"

namespace {

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ramet::Status status = ramet::check_initrd(std::as_bytes(std::span(data, size)));
  require(status.ok() || !status.message().empty());
  require(size > 0 || !status.ok());

  // The first bytes double as the three numbers of place_initrd.
  std::array<uint64_t, 3> numbers{};
  std::memcpy(numbers.data(), data, std::min(size, sizeof(numbers)));
  const auto [bytes, floor, ceiling] = numbers;
  const auto address = ramet::place_initrd(bytes, floor, ceiling);
  if (address.ok()) {
    require(*address % 4096 == 0);
    require(*address >= floor);
    require(*address <= ceiling && bytes <= ceiling - *address);
    require(ceiling - *address - bytes < 4096);
  }
  return 0;
}
