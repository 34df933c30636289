// Vcpu's save and restore: which registers, by which call, in which order.
#include "vmm/kvm/vcpu_state.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <absl/strings/str_format.h>

#include "vmm/arch/x86_64/msr.h"
#include "vmm/base/syscall.h"
#include "vmm/kvm/vcpu.h"

namespace ramet {
namespace {

// KVM takes at most MAX_IO_MSRS (256) at once (arch/x86/kvm/x86.c).
constexpr size_t kMsrBatch = 256;

template <typename T>
Status call(int fd, unsigned long request, T* argument, const char* what) {
  return sys::ioctl(fd, request, static_cast<void*>(argument)).status(what);
}

// A kvm_msrs with room for a batch.
class MsrBuffer {
 public:
  explicit MsrBuffer(size_t count) { get()->nmsrs = static_cast<uint32_t>(count); }
  kvm_msrs* get() { return reinterpret_cast<kvm_msrs*>(words_.data()); }
  kvm_msr_entry& entry(size_t i) { return get()->entries[i]; }

 private:
  static constexpr size_t kBytes = sizeof(kvm_msrs) + kMsrBatch * sizeof(kvm_msr_entry);
  std::array<uint64_t, kBytes / sizeof(uint64_t)> words_ = {};
};

// The values of those of `indices` that this vCPU has.
StatusOr<std::vector<Msr>> read_msrs(int fd, std::span<const uint32_t> indices) {
  std::vector<Msr> result;
  size_t next = 0;
  while (next < indices.size()) {
    const size_t count = std::min(kMsrBatch, indices.size() - next);
    MsrBuffer buffer(count);
    for (size_t i = 0; i < count; ++i) {
      buffer.entry(i).index = indices[next + i];
    }
    const sys::Result got = sys::ioctl(fd, KVM_GET_MSRS, static_cast<void*>(buffer.get()));
    RAMET_RETURN_IF_ERROR(got.status("KVM_GET_MSRS"));
    const size_t read = std::min(static_cast<size_t>(got.value), count);
    for (size_t i = 0; i < read; ++i) {
      result.push_back({buffer.entry(i).index, buffer.entry(i).data});
    }
    // KVM stops before the first MSR that this vCPU's CPUID does not give it: leave that one out.
    next += read < count ? read + 1 : count;
  }
  return result;
}

Status write_msrs(int fd, std::span<const Msr> msrs) {
  for (size_t next = 0; next < msrs.size();) {
    const size_t count = std::min(kMsrBatch, msrs.size() - next);
    MsrBuffer buffer(count);
    for (size_t i = 0; i < count; ++i) {
      buffer.entry(i).index = msrs[next + i].index;
      buffer.entry(i).data = msrs[next + i].value;
    }
    const sys::Result set = sys::ioctl(fd, KVM_SET_MSRS, static_cast<void*>(buffer.get()));
    RAMET_RETURN_IF_ERROR(set.status("KVM_SET_MSRS"));
    if (static_cast<size_t>(set.value) < count) {
      const Msr& refused = msrs[next + static_cast<size_t>(set.value)];
      return absl::FailedPreconditionError(absl::StrFormat(
          "this host's KVM refuses MSR %#x = %#x of the snapshot", refused.index, refused.value));
    }
    next += count;
  }
  return Status();
}

StatusOr<uint64_t> read_one_msr(int fd, uint32_t index) {
  RAMET_ASSIGN_OR_RETURN(const auto msrs, read_msrs(fd, {&index, 1}));
  return msrs.empty() ? 0 : msrs[0].value;
}

}  // namespace

Status Vcpu::set_general_late(const kvm_regs& registers) {
  if (!kvm_.has_sync_regs()) {
    kvm_regs copy = registers;
    return call(fd_.get(), KVM_SET_REGS, &copy, "KVM_SET_REGS");
  }
  run_page()->s.regs.regs = registers;
  run_page()->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
  return Status();
}

Status Vcpu::settle_general() const {
  kvm_run* run = run_page();
  if ((run->kvm_dirty_regs & KVM_SYNC_X86_REGS) == 0) {
    return Status();
  }
  kvm_regs late = run->s.regs.regs;
  RAMET_RETURN_IF_ERROR(call(fd_.get(), KVM_SET_REGS, &late, "KVM_SET_REGS"));
  run->kvm_dirty_regs &= ~uint64_t{KVM_SYNC_X86_REGS};
  return Status();
}

StatusOr<VcpuRegisters> Vcpu::registers() const {
  RAMET_RETURN_IF_ERROR(settle_general());
  VcpuRegisters registers;
  RAMET_RETURN_IF_ERROR(call(fd_.get(), KVM_GET_REGS, &registers.general, "KVM_GET_REGS"));
  RAMET_RETURN_IF_ERROR(call(fd_.get(), KVM_GET_SREGS2, &registers.special, "KVM_GET_SREGS2"));
  return registers;
}

Status Vcpu::set_registers(const VcpuRegisters& registers) {
  RAMET_RETURN_IF_ERROR(settle_general());
  VcpuRegisters copy = registers;
  RAMET_RETURN_IF_ERROR(call(fd_.get(), KVM_SET_SREGS2, &copy.special, "KVM_SET_SREGS2"));
  return call(fd_.get(), KVM_SET_REGS, &copy.general, "KVM_SET_REGS");
}

StatusOr<uint32_t> Vcpu::tsc_khz() const {
  const sys::Result result = sys::ioctl(fd_.get(), KVM_GET_TSC_KHZ);
  RAMET_RETURN_IF_ERROR(result.status("KVM_GET_TSC_KHZ"));
  if (result.value == 0) {
    return absl::UnimplementedError(
        "KVM_GET_TSC_KHZ is 0 on this host: a guest's timers would never fire");
  }
  return static_cast<uint32_t>(result.value);
}

Status Vcpu::set_tsc_khz(uint32_t khz) {
  return sys::ioctl(fd_.get(), KVM_SET_TSC_KHZ, uint64_t{khz}).status("KVM_SET_TSC_KHZ %d", khz);
}

void Vcpu::notify_paused() { sys::ioctl(fd_.get(), KVM_KVMCLOCK_CTRL); }

Status Vcpu::set_msrs(std::span<const Msr> msrs) { return write_msrs(fd_.get(), msrs); }

StatusOr<VcpuState> Vcpu::save() const {
  const int fd = fd_.get();
  RAMET_RETURN_IF_ERROR(settle_general());
  VcpuState state;
  // First: it carries out an INIT or SIPI that is pending (kvm_apic_accept_events,
  // arch/x86/kvm/lapic.c), which changes nearly all that follows.
  RAMET_RETURN_IF_ERROR(call(fd, KVM_GET_MP_STATE, &state.mp_state, "KVM_GET_MP_STATE"));
  RAMET_ASSIGN_OR_RETURN(state.registers, registers());
  RAMET_RETURN_IF_ERROR(call(fd, KVM_GET_XCRS, &state.xcrs, "KVM_GET_XCRS"));
  state.xsave.resize(kvm_.xsave_bytes());
  RAMET_RETURN_IF_ERROR(call(fd, KVM_GET_XSAVE2, state.xsave.data(), "KVM_GET_XSAVE2"));
  std::vector<uint32_t> wanted;
  std::ranges::copy_if(kvm_.msr_indices(), std::back_inserter(wanted), x86::msr_may_be_restored);
  RAMET_ASSIGN_OR_RETURN(state.msrs, read_msrs(fd, wanted));
  RAMET_ASSIGN_OR_RETURN(state.tsc_deadline, read_one_msr(fd, x86::kMsrTscDeadline));
  RAMET_ASSIGN_OR_RETURN(state.tsc, read_one_msr(fd, x86::kMsrTsc));
  RAMET_RETURN_IF_ERROR(call(fd, KVM_GET_LAPIC, &state.lapic, "KVM_GET_LAPIC"));
  RAMET_RETURN_IF_ERROR(call(fd, KVM_GET_VCPU_EVENTS, &state.events, "KVM_GET_VCPU_EVENTS"));
  RAMET_RETURN_IF_ERROR(call(fd, KVM_GET_DEBUGREGS, &state.debugregs, "KVM_GET_DEBUGREGS"));
  return state;
}

Status Vcpu::restore(const VcpuState& saved) {
  if (saved.xsave.size() < kvm_.xsave_bytes()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the snapshot holds %d bytes of XSAVE state, this host's KVM takes %d",
                        saved.xsave.size(), kvm_.xsave_bytes()));
  }
  VcpuState state = saved;
  const int fd = fd_.get();
  RAMET_RETURN_IF_ERROR(call(fd, KVM_SET_SREGS2, &state.registers.special, "KVM_SET_SREGS2"));
  RAMET_RETURN_IF_ERROR(call(fd, KVM_SET_XCRS, &state.xcrs, "KVM_SET_XCRS"));
  RAMET_RETURN_IF_ERROR(call(fd, KVM_SET_XSAVE, state.xsave.data(), "KVM_SET_XSAVE"));
  RAMET_RETURN_IF_ERROR(write_msrs(fd, state.msrs));
  RAMET_RETURN_IF_ERROR(call(fd, KVM_SET_VCPU_EVENTS, &state.events, "KVM_SET_VCPU_EVENTS"));
  RAMET_RETURN_IF_ERROR(call(fd, KVM_SET_DEBUGREGS, &state.debugregs, "KVM_SET_DEBUGREGS"));
  RAMET_RETURN_IF_ERROR(set_general_late(state.registers.general));
  return call(fd, KVM_SET_MP_STATE, &state.mp_state, "KVM_SET_MP_STATE");
}

Status Vcpu::forget_startup_ipis(const VcpuState& next) {
  // KVM_SET_VCPU_EVENTS overwrites a pending INIT (latched_init), and a SIPI means nothing to a
  // vCPU that runs (kvm_apic_accept_events, arch/x86/kvm/lapic.c). Others have KVM carry both out.
  const bool overwritten = (next.events.flags & KVM_VCPUEVENT_VALID_SMM) != 0 &&
                           next.mp_state.mp_state == KVM_MP_STATE_RUNNABLE;
  if (overwritten) {
    return Status();
  }
  kvm_mp_state state = {};
  return call(fd_.get(), KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE");
}

Status Vcpu::restore_time(const VcpuState& saved) {
  kvm_lapic_state lapic = saved.lapic;
  const int fd = fd_.get();
  RAMET_RETURN_IF_ERROR(call(fd, KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC"));
  // The TSC before the deadline, which is a TSC value; a deadline of 0 disarms the timer, so it is
  // written only when one was armed.
  const Msr tsc = {x86::kMsrTsc, saved.tsc};
  RAMET_RETURN_IF_ERROR(write_msrs(fd, {&tsc, 1}));
  if (saved.tsc_deadline != 0) {
    const Msr deadline = {x86::kMsrTscDeadline, saved.tsc_deadline};
    RAMET_RETURN_IF_ERROR(write_msrs(fd, {&deadline, 1}));
  }
  return Status();
}

}  // namespace ramet
