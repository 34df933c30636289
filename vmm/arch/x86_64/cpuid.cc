#include "vmm/arch/x86_64/cpuid.h"

#include <algorithm>
#include <array>
#include <bit>

#include <absl/strings/str_format.h>

namespace ramet::x86 {
namespace {

constexpr uint32_t bit(unsigned n) { return uint32_t{1} << n; }

constexpr uint32_t kKvmFeatures = 0x40000001;  // Documentation/virt/kvm/x86/cpuid.rst

enum class Register : uint8_t { kEax, kEbx, kEcx, kEdx };

uint32_t& value(CpuidEntry* entry, Register which) {
  switch (which) {
    case Register::kEax:
      return entry->eax;
    case Register::kEbx:
      return entry->ebx;
    case Register::kEcx:
      return entry->ecx;
    case Register::kEdx:
      break;
  }
  return entry->edx;
}

uint32_t value(const CpuidEntry& entry, Register which) {
  CpuidEntry copy = entry;
  return value(&copy, which);
}

struct MaskRow {
  uint32_t function;
  uint32_t index;
  Register reg;
  uint32_t bits;  // taken away
  const char* why;
};

constexpr MaskRow kMasks[] = {
    {1, 0, Register::kEcx, bit(3), "MONITOR: the idle loop must HLT, so that KVM knows"},
    {1, 0, Register::kEcx, bit(5), "VMX: no nested guests"},
    {1, 0, Register::kEcx, bit(15), "PDCM: no PMU"},
    {5, 0, Register::kEax, ~0u, "MONITOR leaf"},
    {5, 0, Register::kEbx, ~0u, "MONITOR leaf"},
    {5, 0, Register::kEcx, ~0u, "MONITOR leaf"},
    {5, 0, Register::kEdx, ~0u, "MONITOR leaf"},
    {7, 0, Register::kEdx, bit(22) | bit(24) | bit(25), "AMX: 8 KiB of state for nobody"},
    {7, 0, Register::kEcx, bit(5), "WAITPKG: user-mode waits that KVM cannot see"},
    {7, 0, Register::kEcx, bit(7), "CET shadow stacks: their MSRs are not in a snapshot"},
    {7, 0, Register::kEdx, bit(20), "CET indirect branch tracking: the same"},
    {7, 1, Register::kEax, bit(17), "FRED: its MSRs are not in a snapshot"},
    {7, 1, Register::kEax, bit(21), "AMX-FP16"},
    {0xa, 0, Register::kEax, ~0u, "PMU: counters do not survive a fork"},
    {0xa, 0, Register::kEbx, ~0u, "PMU"},
    {0xa, 0, Register::kEcx, ~0u, "PMU"},
    {0xa, 0, Register::kEdx, ~0u, "PMU"},
    {0xd, 0, Register::kEax, bit(17) | bit(18), "AMX state components"},
    {0x80000001, 0, Register::kEcx, bit(2), "SVM: no nested guests"},
    {0x80000001, 0, Register::kEcx, bit(23) | bit(24) | bit(28), "PMU"},
    {0x80000001, 0, Register::kEcx, bit(29), "MONITORX"},
    {0x80000022, 0, Register::kEax, ~0u, "PMU"},
    {kKvmFeatures, 0, Register::kEax, bit(4) | bit(10) | bit(14),
     "ASYNC_PF: KVM writes a guest page in every fork, and a lost wake-up hangs the guest"},
    {kKvmFeatures, 0, Register::kEax, bit(5), "STEAL_TIME: writes a guest page in every fork"},
    {kKvmFeatures, 0, Register::kEax, bit(6), "PV_EOI: writes a guest page in every fork"},
};

// Leaves whose registers are feature bits: here a template must not have more than its host.
struct FeatureRow {
  uint32_t function;
  uint32_t index;
  Register reg;
};

constexpr FeatureRow kFeatures[] = {
    {1, 0, Register::kEcx},          {1, 0, Register::kEdx},
    {7, 0, Register::kEbx},          {7, 0, Register::kEcx},
    {7, 0, Register::kEdx},          {7, 1, Register::kEax},
    {7, 1, Register::kEdx},          {7, 2, Register::kEdx},
    {0xd, 0, Register::kEax},        {0xd, 1, Register::kEax},
    {0x80000001, 0, Register::kEcx}, {0x80000001, 0, Register::kEdx},
    {0x80000007, 0, Register::kEdx}, {0x80000008, 0, Register::kEbx},
    {0x80000021, 0, Register::kEax}, {kKvmFeatures, 0, Register::kEax},
};

// Bits that follow the vCPU's own state and not the policy: OSXSAVE and OSPKE mirror CR4;
// HYPERVISOR and TSC_DEADLINE are set by us; APIC mirrors IA32_APIC_BASE.
uint32_t dynamic_bits(const FeatureRow& row) {
  if (row.function == 1 && row.reg == Register::kEcx) {
    return bit(27) | bit(31) | bit(24);
  }
  if (row.function == 1 && row.reg == Register::kEdx) {
    return bit(9);
  }
  if (row.function == 7 && row.index == 0 && row.reg == Register::kEcx) {
    return bit(4);
  }
  return 0;
}

const CpuidEntry* find(std::span<const CpuidEntry> entries, uint32_t function, uint32_t index) {
  const auto found = std::ranges::find_if(entries, [&](const CpuidEntry& entry) {
    return entry.function == function && (!entry.indexed || entry.index == index);
  });
  return found == entries.end() ? nullptr : &*found;
}

uint32_t feature(std::span<const CpuidEntry> entries, const FeatureRow& row) {
  const CpuidEntry* entry = find(entries, row.function, row.index);
  return entry == nullptr ? 0 : value(*entry, row.reg);
}

std::string describe(const FeatureRow& row, uint32_t bits) {
  constexpr std::array<const char*, 4> kNames = {"eax", "ebx", "ecx", "edx"};
  return absl::StrFormat("leaf %#x.%d %s bits %#x", row.function, row.index,
                         kNames[static_cast<size_t>(row.reg)], bits);
}

// AMD and Intel number the levels of leaf 0xb/0x1f alike: level 0 is threads of a core, level 1
// cores of the package.
constexpr uint32_t kTopologyLeaves[] = {0xb, 0x1f};
constexpr uint32_t kTopologyLevels = 2;

void set_topology(CpuidEntry* entry, uint32_t vcpu, uint32_t vcpus) {
  const auto core_shift = static_cast<uint32_t>(std::bit_width(vcpus - 1));
  entry->edx = vcpu;
  entry->ecx = entry->index;
  if (entry->index == 0) {
    entry->eax = 0;
    entry->ebx = 1;
    entry->ecx |= 1u << 8;  // SMT level
  } else {
    entry->eax = core_shift;
    entry->ebx = vcpus;
    entry->ecx |= 2u << 8;  // core level
  }
}

// KVM_GET_SUPPORTED_CPUID lists the host's levels (before Linux 6.3) or a single empty one; a guest
// without the core level takes each of its vCPUs for a package of its own.
void replace_topology(std::vector<CpuidEntry>* entries, uint32_t leaf, uint32_t vcpu,
                      uint32_t vcpus) {
  const auto is_leaf = [&](const CpuidEntry& entry) { return entry.function == leaf; };
  const auto first = std::ranges::find_if(*entries, is_leaf);
  if (first == entries->end()) {
    return;
  }
  const auto position = first - entries->begin();
  std::erase_if(*entries, is_leaf);
  for (uint32_t level = 0; level < kTopologyLevels; ++level) {
    CpuidEntry entry = {.function = leaf, .index = level, .indexed = true};
    set_topology(&entry, vcpu, vcpus);
    entries->insert(entries->begin() + position + level, entry);
  }
}

// Intel SDM 2A, CPUID leaf 1; AMD APM 3, E.3.2.
uint32_t family(const CpuidEntry& leaf1) {
  const uint32_t base = (leaf1.eax >> 8) & 0xf;
  return base == 0xf ? base + ((leaf1.eax >> 20) & 0xff) : base;
}

void personalize(CpuidEntry* entry, uint32_t vcpu, uint32_t vcpus) {
  switch (entry->function) {
    case 1:
      entry->ebx = (entry->ebx & 0x0000ffff) | (vcpus << 16) | (vcpu << 24);
      entry->edx = vcpus > 1 ? entry->edx | bit(28) : entry->edx & ~bit(28);  // HTT
      break;
    case 4:
      // Bits 25:14 threads sharing the cache, 31:26 cores in the package: one thread a core, caches
      // private.
      if ((entry->eax & 0x1f) != 0) {
        entry->eax = (entry->eax & 0x3fff) | ((vcpus - 1) << 26);
      }
      break;
    case 0x80000008:
      entry->ecx = (entry->ecx & 0xffff0000) | (vcpus - 1);
      break;
    case 0x8000001d:
      entry->eax &= ~(0xfffu << 14);  // caches private
      break;
    case 0x8000001e:
      entry->eax = vcpu;
      entry->ebx = (entry->ebx & ~0xffffu) | vcpu;  // compute unit id, one thread each
      entry->ecx = 0;
      break;
    default:
      break;
  }
}

// CPUID leaf 80000008H, EAX bits 7 to 0 (Intel SDM 2A, CPUID; AMD APM 3, E.4.7); 36 without the
// leaf, as with PAE.
uint32_t physical_address_bits(std::span<const CpuidEntry> entries) {
  const CpuidEntry* const sizes = find(entries, 0x80000008, 0);
  return sizes == nullptr ? 36 : sizes->eax & 0xff;
}

}  // namespace

std::vector<CpuidEntry> baseline(std::span<const CpuidEntry> supported, const CpuidFacts& facts) {
  std::vector<CpuidEntry> policy(supported.begin(), supported.end());
  for (CpuidEntry& entry : policy) {
    for (const MaskRow& row : kMasks) {
      if (entry.function == row.function && (!entry.indexed || entry.index == row.index)) {
        value(&entry, row.reg) &= ~row.bits;
      }
    }
    if (entry.function == 1) {
      entry.ecx |= bit(31);  // HYPERVISOR
      entry.ecx = facts.tsc_deadline ? entry.ecx | bit(24) : entry.ecx & ~bit(24);
    }
  }
  return policy;
}

std::vector<CpuidEntry> for_vcpu(std::span<const CpuidEntry> policy, uint32_t vcpu,
                                 uint32_t vcpus) {
  std::vector<CpuidEntry> entries(policy.begin(), policy.end());
  for (CpuidEntry& entry : entries) {
    personalize(&entry, vcpu, vcpus);
  }
  for (const uint32_t leaf : kTopologyLeaves) {
    replace_topology(&entries, leaf, vcpu, vcpus);
  }
  return entries;
}

Status check_compatible(std::span<const CpuidEntry> policy, std::span<const CpuidEntry> supported) {
  const CpuidEntry* made_on = find(policy, 0, 0);
  const CpuidEntry* here = find(supported, 0, 0);
  if (made_on == nullptr || here == nullptr || made_on->ebx != here->ebx ||
      made_on->ecx != here->ecx || made_on->edx != here->edx) {
    return absl::FailedPreconditionError(
        "the template was made on a CPU of another vendor; build it anew on this host");
  }
  const CpuidEntry* its_model = find(policy, 1, 0);
  const CpuidEntry* our_model = find(supported, 1, 0);
  if (its_model == nullptr || our_model == nullptr || family(*its_model) != family(*our_model)) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the template was made on a CPU of family %#x, this host is of family %#x; build it anew "
        "on this host",
        its_model == nullptr ? 0 : family(*its_model),
        our_model == nullptr ? 0 : family(*our_model)));
  }
  std::string missing;
  for (const FeatureRow& row : kFeatures) {
    const uint32_t lacking = feature(policy, row) & ~feature(supported, row) & ~dynamic_bits(row);
    if (lacking != 0) {
      missing += (missing.empty() ? "" : ", ") + describe(row, lacking);
    }
  }
  if (!missing.empty()) {
    return absl::FailedPreconditionError(
        "the template uses CPU features that this host lacks (" + missing +
        "); build it anew on this host, or move it to a host with them");
  }
  const uint32_t its_width = physical_address_bits(policy);
  const uint32_t our_width = physical_address_bits(supported);
  if (its_width > our_width) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the template was made on a CPU with %d bits of physical address, this host's has %d; "
        "build it anew on this host",
        its_width, our_width));
  }
  return Status();
}

std::string returned_bits(std::span<const CpuidEntry> asked, std::span<const CpuidEntry> got) {
  std::string result;
  for (const FeatureRow& row : kFeatures) {
    const uint32_t extra = feature(got, row) & ~feature(asked, row) & ~dynamic_bits(row);
    if (extra != 0) {
      result += (result.empty() ? "" : ", ") + describe(row, extra);
    }
  }
  return result;
}

}  // namespace ramet::x86
