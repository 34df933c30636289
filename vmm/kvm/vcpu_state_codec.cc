#include <algorithm>
#include <cstring>

#include <absl/strings/str_format.h>

#include "vmm/arch/x86_64/msr.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/state/codec.h"

namespace ramet {
namespace {

// Tripwires: these sizes are in the file. A change needs a new kVcpuStateVersion.
static_assert(sizeof(kvm_regs) == 144);
static_assert(sizeof(kvm_sregs2) == 320);
static_assert(sizeof(kvm_xcrs) == 392);
static_assert(sizeof(kvm_lapic_state) == 1024);
static_assert(sizeof(kvm_vcpu_events) == 64);
static_assert(sizeof(kvm_debugregs) == 128);
static_assert(sizeof(kvm_mp_state) == 4);
static_assert(kVcpuStateVersion == 1);

template <typename T>
void put(Encoder* out, const T& value) {
  out->raw(std::as_bytes(std::span<const T, 1>(&value, 1)));
}

template <typename T>
void take(Decoder* in, T* value) {
  const auto bytes = in->raw(sizeof(T));
  if (bytes.size() == sizeof(T)) {
    std::memcpy(value, bytes.data(), sizeof(T));
  }
}

}  // namespace

std::vector<std::byte> encode_vcpu_state(const VcpuState& state) {
  Encoder out;
  put(&out, state.registers.general);
  put(&out, state.registers.special);
  put(&out, state.xcrs);
  out.blob(state.xsave);
  out.number(static_cast<uint32_t>(state.msrs.size()));
  for (const Msr& msr : state.msrs) {
    out.number(msr.index);
    out.number(msr.value);
  }
  put(&out, state.lapic);
  put(&out, state.events);
  put(&out, state.debugregs);
  put(&out, state.mp_state);
  out.number(state.tsc);
  out.number(state.tsc_deadline);
  return out.take();
}

StatusOr<VcpuState> decode_vcpu_state(std::span<const std::byte> bytes) {
  Decoder in(bytes, "vCPU state");
  VcpuState state;
  take(&in, &state.registers.general);
  take(&in, &state.registers.special);
  take(&in, &state.xcrs);
  const auto xsave = in.blob(kMaxXsaveBytes, "XSAVE bytes");
  state.xsave.assign(xsave.begin(), xsave.end());
  const auto count = in.bounded<uint32_t>(0, kMaxMsrCount, "number of MSRs");
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    Msr msr;
    msr.index = in.number<uint32_t>();
    msr.value = in.number<uint64_t>();
    if (in.ok() && !x86::msr_may_be_restored(msr.index)) {
      return absl::DataLossError(
          absl::StrFormat("vCPU state: MSR %#x is not one that a snapshot may set", msr.index));
    }
    state.msrs.push_back(msr);
  }
  take(&in, &state.lapic);
  take(&in, &state.events);
  take(&in, &state.debugregs);
  take(&in, &state.mp_state);
  state.tsc = in.number<uint64_t>();
  state.tsc_deadline = in.number<uint64_t>();
  RAMET_RETURN_IF_ERROR(in.finish());
  if (state.xsave.size() < sizeof(kvm_xsave) || state.xcrs.nr_xcrs > KVM_MAX_XCRS) {
    return absl::DataLossError(absl::StrFormat("vCPU state: %d XSAVE bytes and %d XCRs",
                                               state.xsave.size(), state.xcrs.nr_xcrs));
  }
  return state;
}

}  // namespace ramet
