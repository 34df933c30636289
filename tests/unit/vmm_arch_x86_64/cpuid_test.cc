// CPUID as a policy: what is taken away, what each vCPU gets, and what refuses a template.
#include "vmm/arch/x86_64/cpuid.h"

#include <algorithm>

#include <catch2/catch.hpp>

using ramet::x86::CpuidEntry;

namespace {

constexpr uint32_t kAll = ~0u;

CpuidEntry leaf(uint32_t function, uint32_t index = 0, bool indexed = false) {
  return {.function = function,
          .index = index,
          .indexed = indexed,
          .eax = kAll,
          .ebx = kAll,
          .ecx = kAll,
          .edx = kAll};
}

// A CPU that has everything.
std::vector<CpuidEntry> everything() {
  std::vector<CpuidEntry> all = {leaf(0),
                                 leaf(1),
                                 leaf(4, 0, true),
                                 leaf(4, 1, true),
                                 leaf(5),
                                 leaf(7, 0, true),
                                 leaf(7, 1, true),
                                 leaf(7, 2, true),
                                 leaf(0xa),
                                 leaf(0xb, 0, true),
                                 leaf(0xd, 0, true),
                                 leaf(0xd, 1, true),
                                 leaf(0x80000001),
                                 leaf(0x80000007),
                                 leaf(0x80000008),
                                 leaf(0x8000001e),
                                 leaf(0x80000021),
                                 leaf(0x80000022),
                                 leaf(0x40000001)};
  all[1].eax = 0x00a00f11;  // AMD family 0x19
  return all;
}

const CpuidEntry& get(const std::vector<CpuidEntry>& entries, uint32_t function,
                      uint32_t index = 0) {
  const auto found = std::ranges::find_if(entries, [&](const CpuidEntry& entry) {
    return entry.function == function && entry.index == index;
  });
  REQUIRE(found != entries.end());
  return *found;
}

bool has(uint32_t value, unsigned bit) { return (value >> bit & 1) != 0; }

}  // namespace

TEST_CASE("the baseline takes away what a fork or another host cannot keep, and nothing else") {
  const auto policy = ramet::x86::baseline(everything(), {});
  CHECK(get(policy, 1).ecx == (kAll & ~(1u << 3 | 1u << 5 | 1u << 15)));
  CHECK(get(policy, 1).edx == kAll);
  CHECK(get(policy, 5).eax == 0);
  CHECK(get(policy, 5).edx == 0);
  CHECK(get(policy, 7).ebx == kAll);
  CHECK(get(policy, 7).ecx == (kAll & ~(1u << 5 | 1u << 7)));
  CHECK(get(policy, 7).edx == (kAll & ~(1u << 20 | 1u << 22 | 1u << 24 | 1u << 25)));
  CHECK(get(policy, 7, 1).eax == (kAll & ~(1u << 17 | 1u << 21)));
  CHECK(get(policy, 0xa).eax == 0);
  CHECK(get(policy, 0xd).eax == (kAll & ~(1u << 17 | 1u << 18)));
  CHECK(get(policy, 0xd, 1).eax == kAll);
  CHECK(!has(get(policy, 0x80000001).ecx, 2));
  CHECK(!has(get(policy, 0x80000001).ecx, 29));
  CHECK(get(policy, 0x80000022).eax == 0);
  // ASYNC_PF (4, 10, 14), STEAL_TIME (5), PV_EOI (6): Documentation/virt/kvm/x86/cpuid.rst.
  CHECK(get(policy, 0x40000001).eax ==
        (kAll & ~(1u << 4 | 1u << 5 | 1u << 6 | 1u << 10 | 1u << 14)));
  CHECK(policy.size() == everything().size());
}

TEST_CASE("TSC_DEADLINE follows what KVM can do, and HYPERVISOR is always set") {
  std::vector<CpuidEntry> bare = {{.function = 1}};
  CHECK(get(ramet::x86::baseline(bare, {.tsc_deadline = true}), 1).ecx == (1u << 31 | 1u << 24));
  CHECK(get(ramet::x86::baseline(bare, {.tsc_deadline = false}), 1).ecx == 1u << 31);
  CHECK(!has(get(ramet::x86::baseline(everything(), {.tsc_deadline = false}), 1).ecx, 24));
}

TEST_CASE("each vCPU has its own APIC id and the same topology of one package") {
  const auto policy = ramet::x86::baseline(everything(), {});
  for (const uint32_t vcpus : {1u, 2u, 3u, 8u}) {
    for (uint32_t vcpu = 0; vcpu < vcpus; ++vcpu) {
      const auto own = ramet::x86::for_vcpu(policy, vcpu, vcpus);
      CHECK(get(own, 1).ebx >> 24 == vcpu);
      CHECK((get(own, 1).ebx >> 16 & 0xff) == vcpus);
      CHECK((get(own, 1).ebx & 0xffff) == 0xffff);
      CHECK(has(get(own, 1).edx, 28) == (vcpus > 1));
      CHECK(get(own, 4).eax >> 26 == vcpus - 1);
      CHECK((get(own, 4).eax >> 14 & 0xfff) == 0);
      CHECK((get(own, 0x80000008).ecx & 0xff) == vcpus - 1);
      CHECK(get(own, 0x8000001e).eax == vcpu);
    }
  }
}

TEST_CASE("leaf 0xb gets its core level also where KVM lists only one empty level") {
  std::vector<CpuidEntry> policy = {{.function = 0xa},
                                    {.function = 0xb, .index = 0, .indexed = true},
                                    {.function = 0xd, .indexed = true}};
  const auto own = ramet::x86::for_vcpu(policy, 3, 5);
  REQUIRE(own.size() == 4);
  CHECK(own[1] == CpuidEntry{0xb, 0, true, 0, 1, 1u << 8, 3});
  CHECK(own[2] == CpuidEntry{0xb, 1, true, 3, 5, 2u << 8 | 1, 3});
  CHECK(own[3].function == 0xd);
  // A host that lists more levels than ours gives up its own.
  policy.insert(policy.begin() + 2, {leaf(0xb, 1, true), leaf(0xb, 2, true)});
  CHECK(ramet::x86::for_vcpu(policy, 3, 5) == own);
  // Without the leaf, none is invented.
  CHECK(ramet::x86::for_vcpu(std::vector<CpuidEntry>{{.function = 1}}, 0, 1).size() == 1);
}

TEST_CASE("a template fits the host it was made on and any with more features") {
  const auto policy = ramet::x86::baseline(everything(), {});
  CHECK(ramet::x86::check_compatible(policy, everything()).ok());
  // What follows the vCPU or is set by us need not be in the host's list.
  auto host = everything();
  for (CpuidEntry& entry : host) {
    if (entry.function == 1) {
      entry.ecx &= ~(1u << 27 | 1u << 31 | 1u << 24);
    }
  }
  CHECK(ramet::x86::check_compatible(policy, host).ok());
}

TEST_CASE("every feature register is checked, and the message names leaf, register and bits") {
  const auto policy = ramet::x86::baseline(everything(), {});
  struct Row {
    uint32_t function;
    uint32_t index;
    uint32_t CpuidEntry::*reg;
    const char* text;
  };
  const Row rows[] = {
      {1, 0, &CpuidEntry::ecx, "leaf 0x1.0 ecx bits 0x2"},
      {1, 0, &CpuidEntry::edx, "leaf 0x1.0 edx bits 0x2"},
      {7, 0, &CpuidEntry::ebx, "leaf 0x7.0 ebx bits 0x2"},
      {7, 0, &CpuidEntry::ecx, "leaf 0x7.0 ecx bits 0x2"},
      {7, 0, &CpuidEntry::edx, "leaf 0x7.0 edx bits 0x2"},
      {7, 1, &CpuidEntry::eax, "leaf 0x7.1 eax bits 0x2"},
      {7, 1, &CpuidEntry::edx, "leaf 0x7.1 edx bits 0x2"},
      {7, 2, &CpuidEntry::edx, "leaf 0x7.2 edx bits 0x2"},
      {0xd, 0, &CpuidEntry::eax, "leaf 0xd.0 eax bits 0x2"},
      {0xd, 1, &CpuidEntry::eax, "leaf 0xd.1 eax bits 0x2"},
      {0x80000001, 0, &CpuidEntry::ecx, "leaf 0x80000001.0 ecx bits 0x2"},
      {0x80000001, 0, &CpuidEntry::edx, "leaf 0x80000001.0 edx bits 0x2"},
      {0x80000007, 0, &CpuidEntry::edx, "leaf 0x80000007.0 edx bits 0x2"},
      {0x80000008, 0, &CpuidEntry::ebx, "leaf 0x80000008.0 ebx bits 0x2"},
      {0x80000021, 0, &CpuidEntry::eax, "leaf 0x80000021.0 eax bits 0x2"},
      {0x40000001, 0, &CpuidEntry::eax, "leaf 0x40000001.0 eax bits 0x2"},
  };
  for (const Row& row : rows) {
    auto host = everything();
    for (CpuidEntry& entry : host) {
      if (entry.function == row.function && entry.index == row.index) {
        entry.*row.reg &= ~2u;
      }
    }
    const auto status = ramet::x86::check_compatible(policy, host);
    INFO(row.text);
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(std::string(status.message()).find(row.text) != std::string::npos);
    // The same register read back after setting.
    auto asked = host;
    CHECK(ramet::x86::returned_bits(asked, everything()) == row.text);
    CHECK(ramet::x86::returned_bits(everything(), asked).empty());
  }
  // A leaf that is missing altogether lacks all its bits.
  auto host = everything();
  std::erase_if(host, [](const CpuidEntry& entry) { return entry.function == 7; });
  CHECK(!ramet::x86::check_compatible(policy, host).ok());
}

TEST_CASE("a template from another vendor or family is refused by name") {
  const auto policy = ramet::x86::baseline(everything(), {});
  auto vendor = everything();
  vendor[0].ecx ^= 1;
  CHECK(std::string(ramet::x86::check_compatible(policy, vendor).message()).find("vendor") !=
        std::string::npos);
  auto other = everything();
  other[1].eax = 0x00b00f11;  // family 0x1a
  const std::string message(ramet::x86::check_compatible(policy, other).message());
  CHECK(message.find("family 0x19") != std::string::npos);
  CHECK(message.find("family 0x1a") != std::string::npos);
  CHECK(!ramet::x86::check_compatible({}, everything()).ok());
  CHECK(!ramet::x86::check_compatible(policy, {}).ok());
  std::vector<CpuidEntry> vendor_only = {leaf(0)};
  CHECK(!ramet::x86::check_compatible(vendor_only, everything()).ok());
}

TEST_CASE("a template with wider physical addresses than the host's is refused with both widths") {
  const auto with_width = [](uint32_t bits) {
    auto entries = everything();
    std::erase_if(entries, [](const CpuidEntry& entry) { return entry.function == 0x80000008; });
    CpuidEntry sizes = leaf(0x80000008);
    sizes.eax = 0x3000 | bits;
    entries.push_back(sizes);
    return entries;
  };
  const auto policy = ramet::x86::baseline(with_width(48), {});
  CHECK(ramet::x86::check_compatible(policy, with_width(48)).ok());
  CHECK(ramet::x86::check_compatible(policy, with_width(52)).ok());
  const auto narrower = ramet::x86::check_compatible(policy, with_width(46));
  CHECK(narrower.code() == absl::StatusCode::kFailedPrecondition);
  const std::string message(narrower.message());
  CHECK(message.find("48 bits") != std::string::npos);
  CHECK(message.find("has 46") != std::string::npos);
}
