// VcpuState: everything of a vCPU that a snapshot keeps, as plain data.
//
// Thread rule: plain values.
// Invariant: the kernel's structures are kept as the kernel's ABI lays them out;
// vcpu_state_codec.cc pins their sizes.
#ifndef RAMET_VMM_KVM_VCPU_STATE_H_
#define RAMET_VMM_KVM_VCPU_STATE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/kvm_abi.h"

namespace ramet {

struct VcpuRegisters {
  kvm_regs general = {};
  kvm_sregs2 special = {};
};

struct Msr {
  uint32_t index = 0;
  uint64_t value = 0;

  friend bool operator==(const Msr&, const Msr&) = default;
};

struct VcpuState {
  VcpuRegisters registers;
  kvm_xcrs xcrs = {};
  std::vector<std::byte> xsave;  // KVM_GET_XSAVE2's bytes
  std::vector<Msr> msrs;         // without the TSC and its deadline
  kvm_lapic_state lapic = {};
  kvm_vcpu_events events = {};
  kvm_debugregs debugregs = {};
  kvm_mp_state mp_state = {};
  uint64_t tsc = 0;           // IA32_TSC at the save
  uint64_t tsc_deadline = 0;  // IA32_TSC_DEADLINE; 0 = not armed
};

// The state as bytes, and back. Decoding is for hostile bytes: sizes, counts and the list of MSRs
// are checked against the allow-list (vmm/arch/x86_64/msr.h); the register values themselves are
// KVM's to judge and the guest's to bear.
std::vector<std::byte> encode_vcpu_state(const VcpuState& state);
StatusOr<VcpuState> decode_vcpu_state(std::span<const std::byte> bytes);
inline constexpr uint16_t kVcpuStateVersion = 1;
// KVM_GET_XSAVE2 of the largest CPU known (AMX: 11 KiB), with room.
inline constexpr size_t kMaxXsaveBytes = 64 * 1024;
inline constexpr size_t kMaxMsrCount = 1024;

}  // namespace ramet

#endif  // RAMET_VMM_KVM_VCPU_STATE_H_
