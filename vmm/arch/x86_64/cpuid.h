// CPUID as a policy: what of the host's CPU a template's guests see.
//
// Thread rule: pure functions.
// Invariant: a policy only ever takes features away; the leaves that describe one vCPU are made per
// vCPU.
#ifndef RAMET_VMM_ARCH_X86_64_CPUID_H_
#define RAMET_VMM_ARCH_X86_64_CPUID_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/status.h"

namespace ramet::x86 {

struct CpuidEntry {
  uint32_t function = 0;
  uint32_t index = 0;
  bool indexed = false;  // `index` counts (KVM_CPUID_FLAG_SIGNIFCANT_INDEX)
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;

  friend bool operator==(const CpuidEntry&, const CpuidEntry&) = default;
};

inline constexpr size_t kMaxCpuidEntries = 256;

struct CpuidFacts {
  bool tsc_deadline = true;  // KVM_CAP_TSC_DEADLINE_TIMER
};

// The baseline "ramet-1": the host's CPUID without what a fork or another host of the same kind
// cannot keep.
std::vector<CpuidEntry> baseline(std::span<const CpuidEntry> supported, const CpuidFacts& facts);

// The baseline with APIC ids and topology of one of `vcpus` vCPUs (leaves 1, 4, 0xb, 0x1f,
// 0x8000001e).
std::vector<CpuidEntry> for_vcpu(std::span<const CpuidEntry> policy, uint32_t vcpu, uint32_t vcpus);

// FailedPrecondition, naming leaf, register and bits, when `policy` has a feature bit that
// `supported` lacks, or was made on a CPU of another vendor or family or with wider physical
// addresses: the check before any KVM call of a restore.
Status check_compatible(std::span<const CpuidEntry> policy, std::span<const CpuidEntry> supported);

// The feature bits that came back set although `asked` had them clear: "leaf 7.0 ebx bit 16", empty
// when none did.
std::string returned_bits(std::span<const CpuidEntry> asked, std::span<const CpuidEntry> got);

}  // namespace ramet::x86

#endif  // RAMET_VMM_ARCH_X86_64_CPUID_H_
