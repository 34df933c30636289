// Vcpu owns one KVM vCPU: its descriptor, its kvm_run page and its register state.
//
// Thread rule: run() and complete_pending_exit() on the vCPU's own thread; all state calls on one
// thread at a time, while it does not run (KVM takes them from any thread, at some cost for the
// first after a change); request_exit() from any thread. Invariant: nothing here looks into guest
// memory; an exit's data lies in the kvm_run page, which only the kernel and this process see.
#ifndef RAMET_VMM_KVM_VCPU_H_
#define RAMET_VMM_KVM_VCPU_H_

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/cpuid.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/kvm/vcpu_state.h"
#include "vmm/kvm/vm.h"
#include "vmm/memory/guest_addr.h"
#include "vmm/memory/mapping.h"

struct kvm_run;

namespace ramet {

enum class ExitKind : uint8_t {
  kInterrupted,  // a signal or request_exit()
  kPio,
  kMmio,
  kHalt,      // HLT with no way to wake up in the kernel
  kShutdown,  // triple fault
  kSystemReset,
  kSystemPowerOff,
  kInternalError,  // KVM could not go on; `detail` says why
  kOther,          // an exit Ramet asked for nothing of; `detail` names it
};

struct VcpuExit {
  ExitKind kind = ExitKind::kInterrupted;
  bool is_write = false;
  uint64_t address = 0;  // MMIO address or I/O port
  uint32_t size = 0;     // bytes of one access: 1, 2, 4 or 8
  // `size` bytes, or several times that for string I/O; a reader fills it.
  std::span<std::byte> data = {};
  std::string detail = {};
};

class Vcpu {
 public:
  static StatusOr<std::unique_ptr<Vcpu>> create(const Vm& vm, uint32_t id);

  uint32_t id() const { return id_; }

  // KVM_SET_CPUID2.
  Status set_cpuid(std::span<const x86::CpuidEntry> entries);
  // KVM_GET_CPUID2: what the guest really gets.
  StatusOr<std::vector<x86::CpuidEntry>> cpuid() const;

  // The signals that are open while the guest runs (KVM_SET_SIGNAL_MASK): the kick and the thread's
  // synchronous faults.
  Status unblock_in_run(int kick_signal);

  // Enters the guest until it exits. Errors are the host's: the guest's own end is an exit.
  StatusOr<VcpuExit> run();
  // Completes a PIO or MMIO that is still open, without running guest code. Where the instruction
  // has more accesses (a string, a store across a page), the next one comes back as an exit, to be
  // handled and completed in turn; kInterrupted says that the state is whole. KVM leaves a string
  // after 1,024 accesses at the latest (x86_emulate_insn, arch/x86/kvm/emulate.c).
  StatusOr<VcpuExit> complete_pending_exit();

  // Makes the running or next run() return kInterrupted as soon as it sees it; a signal gets it out
  // of the guest.
  void request_exit();
  void clear_exit_request();

  StatusOr<VcpuState> save() const;
  // All of a saved state but what goes on by itself from the moment it is set.
  Status restore(const VcpuState& state);
  // What goes on: the LAPIC with its timer, the TSC, and its deadline. Just before the vCPU runs,
  // for all vCPUs of a machine one after the other.
  Status restore_time(const VcpuState& state);
  // Before restore(next) of a vCPU that has run, while no other sends it any: an INIT or SIPI that
  // is pending in KVM's LAPIC does not survive the two.
  Status forget_startup_ipis(const VcpuState& next);

  // Maps these pages for the guest as its reads and writes would (KVM_PRE_FAULT_MEMORY, Linux 6.11,
  // two-dimensional paging). Unimplemented elsewhere. The vCPU has its registers already.
  Status pre_fault(GuestSlice pages);

  StatusOr<VcpuRegisters> registers() const;
  Status set_registers(const VcpuRegisters& registers);
  // The state at a kernel's 64-bit entry; general registers not named there are 0.
  Status set_entry(const x86::EntryState& entry);
  // KVM_SET_MSRS. FailedPrecondition naming the first one that KVM refuses.
  Status set_msrs(std::span<const Msr> msrs);

  // KVM_GET_TSC_KHZ.
  StatusOr<uint32_t> tsc_khz() const;
  Status set_tsc_khz(uint32_t khz);
  // KVM_KVMCLOCK_CTRL: tells the guest's watchdog that it was paused. No error where the guest has
  // no kvm-clock.
  void notify_paused();

 private:
  // Sets the general registers with the next KVM_RUN, where this KVM can: every call for a vCPU
  // costs it a load of the vCPU (vcpu_load(), 4 us on software KVM), and this one cannot fail.
  Status set_general_late(const kvm_regs& registers);
  // Does it now, for whoever wants to read them or set others.
  Status settle_general() const;
  Vcpu(const Kvm& kvm, uint32_t id, UniqueFd fd, Mapping run)
      : kvm_(kvm), id_(id), fd_(std::move(fd)), run_(std::move(run)) {}
  kvm_run* run_page() const;
  VcpuExit decode_exit() const;
  VcpuExit decode_pio() const;

  const Kvm& kvm_;
  const uint32_t id_;
  const UniqueFd fd_;
  const Mapping run_;
};

}  // namespace ramet

#endif  // RAMET_VMM_KVM_VCPU_H_
