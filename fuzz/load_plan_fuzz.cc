// parse_kernel and plan_load: every plan writes bytes of the input or its own into RAM, without
// overlap, away from what the machine reserves. Input: a 12-byte header (below), the initrd, the
// command line, and the rest is the kernel.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/loader/load_plan.h"

namespace {

namespace x86 = ramet::x86;

struct Header {
  uint32_t memory_pages;
  uint16_t initrd_size;
  uint16_t command_line_size;
  uint16_t seed_size;  // zeros
  uint16_t unused;
};
static_assert(sizeof(Header) == 12);

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

bool inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

void check_write(const ramet::GuestWrite& write, const ramet::LoadPlan& plan,
                 std::span<const std::byte> input, uint64_t memory_bytes) {
  const uint64_t end = write.address + write.bytes.size();
  require(end >= write.address);
  require(end <= std::min(memory_bytes, x86::kLowMemoryEnd));
  require(end <= x86::kConventionalMemoryEnd || write.address >= x86::kKernelMinAddress);
  require(!write.what.empty());
  require(inside(write.bytes, input) || std::ranges::any_of(plan.owned, [&](const auto& owned) {
            return inside(write.bytes, owned);
          }));
}

void check_plan(const ramet::LoadPlan& plan, const ramet::LoadRequest& request,
                std::span<const std::byte> input) {
  uint64_t end = 0;
  bool entry_found = false;
  for (const ramet::GuestWrite& write : plan.writes) {
    require(write.address >= end);
    check_write(write, plan, input, request.memory_bytes);
    end = write.address + write.bytes.size();
    entry_found = entry_found || (write.what == "kernel" && plan.entry.rip >= write.address &&
                                  plan.entry.rip < end);
  }
  require(entry_found);
  require(plan.kernel_address >= x86::kKernelMinAddress);
  require(plan.kernel_end > plan.kernel_address && plan.kernel_end <= request.memory_bytes);
  require((plan.initrd_address != 0) == !request.initrd.empty());
  require(plan.initrd_address == 0 || plan.initrd_address >= plan.kernel_end);
  require(plan.initrd_address % x86::kPageSize == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static constexpr std::array<std::byte, 0x10000> kSeed{};
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  Header header{};
  if (size < sizeof(header)) {
    return 0;
  }
  std::memcpy(&header, data, sizeof(header));
  std::span<const std::byte> rest = input.subspan(sizeof(header));
  const auto take = [&](size_t wanted) {
    const auto taken = rest.first(std::min(wanted, rest.size()));
    rest = rest.subspan(taken.size());
    return taken;
  };
  ramet::LoadRequest request;
  request.memory_bytes = uint64_t{header.memory_pages} * x86::kPageSize;
  request.initrd = take(header.initrd_size);
  const auto command_line = take(header.command_line_size);
  request.command_line = {static_cast<const char*>(static_cast<const void*>(command_line.data())),
                          command_line.size()};
  request.rng_seed = std::span(kSeed).first(header.seed_size);
  auto kernel = ramet::parse_kernel(rest, "input");
  if (!kernel.ok()) {
    return 0;
  }
  request.kernel = *std::move(kernel);
  const auto plan = ramet::plan_load(request);
  if (plan.ok()) {
    check_plan(*plan, request, input);
  }
  return 0;
}
