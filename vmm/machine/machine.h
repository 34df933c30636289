// Machine: memory, interrupt controllers, buses and vCPUs of one virtual machine, without policy
// and without a device.
//
// Thread rule: build (create, insert devices, set_entry or restore) on one thread; then resume(),
// pause(), stop(), end(), wait_end() from any thread; save() while paused. Devices on the buses
// must outlive the machine's vCPUs: call stop() before they go. Invariant: KVM calls come in the
// order of docs/design.md section 4. A machine that ended never runs again.
#ifndef RAMET_VMM_MACHINE_MACHINE_H_
#define RAMET_VMM_MACHINE_MACHINE_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vmm/arch/x86_64/boot.h"
#include "vmm/arch/x86_64/ioapic.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/status.h"
#include "vmm/bus/device.h"
#include "vmm/jail/jail.h"
#include "vmm/kvm/kvm.h"
#include "vmm/kvm/vm.h"
#include "vmm/machine/exit_handler.h"
#include "vmm/machine/governor.h"
#include "vmm/machine/limit.h"
#include "vmm/machine/machine_end.h"
#include "vmm/machine/machine_state.h"
#include "vmm/machine/vcpu_thread.h"
#include "vmm/memory/guest_memory.h"

namespace ramet {

// How long each part of making a machine took, in nanoseconds.
struct MachineTimes {
  uint64_t create_vm_ns = 0;
  uint64_t memory_slots_ns = 0;
  uint64_t vcpus_ns = 0;
  uint64_t restore_ns = 0;
};

// What a machine did since it was made.
struct MachineUse {
  uint64_t exits = 0;
  uint64_t interrupts = 0;  // that its devices sent
  uint64_t cpu_ns = 0;      // of all its vCPU threads
  uint64_t waits = 0;       // of vCPUs that a rate held back
  uint64_t waited_ns = 0;   // all of them together
};

class Machine {
 public:
  // What machines share; outlives them.
  struct Host {
    std::shared_ptr<const Kvm> kvm;
    jail::Jail* jail = nullptr;
  };

  // A fresh machine with `vcpus` vCPUs whose CPU model is `cpuid` (x86::baseline). Paused; its
  // memory is as given.
  static StatusOr<std::unique_ptr<Machine>> create(const Host& host,
                                                   std::unique_ptr<GuestMemory> memory,
                                                   uint32_t vcpus,
                                                   std::vector<x86::CpuidEntry> cpuid);
  // A machine in a saved state but for its clocks, paused: it may stand so for as long as its owner
  // likes. Its memory is the saved one (InvalidArgument where it is laid out otherwise).
  // FailedPrecondition where this host cannot run it, before any KVM call.
  static StatusOr<std::unique_ptr<Machine>> restore(const Host& host,
                                                    std::unique_ptr<GuestMemory> memory,
                                                    const MachineState& state);
  // After restore() of the same state, once, just before the first resume(): from here on
  // kvm-clock, TSCs and timers go on from the saved moment.
  Status restore_time(const MachineState& state);
  // After restore(): makes the pages that will be written the machine's own, and maps all of the
  // set for the guest where KVM can, so that their faults are not the guest's. In this order: a
  // page that is mapped before its copy is there costs twice. What could not be done is left to the
  // guest's faults. Errors are the host's; pages done before them stay.
  Status prefetch(const WorkingSet& set);
  // Back to where restore() of the same state left it, whatever the guest has done since, from
  // paused or ended: its devices are forgotten, its memory is the template's again, nothing has
  // been counted, nobody listens. Nobody else uses the machine meanwhile; after an error it can
  // only be destroyed.
  // `memory_back`, where given, is called while nothing of the machine runs, and makes its memory
  // the template's again.
  using MemoryBack = std::function<Status(GuestMemory&)>;
  Status rewind(const MachineState& state, const MemoryBack& memory_back = {});
  // Stops the vCPUs.
  ~Machine();

  GuestMemory& memory() { return *memory_; }
  // For devices; only before the first resume().
  Bus& mmio() { return handler_.mmio(); }
  Bus& pio() { return handler_.pio(); }
  // The interrupt line of pin `gsi` < x86::kIoApicPins. Lives as long as the machine.
  IrqLine& irq(uint32_t gsi) { return lines_.at(gsi); }

  // Before the first resume(). A rate that ends the machine ends it with EndReason::kLimit; that of
  // processor time is for who calls count_cpu().
  void set_rates(const RateLimits& rates) { governor_.set_limits(rates); }
  // The vCPU threads used so much more: they are made to wait, or the machine ends. From any thread
  // but a vCPU's.
  void count_cpu(uint64_t cpu_ns);

  // Points vCPU 0 at a kernel's entry.
  Status set_entry(const x86::EntryState& entry);
  // Who answers for what confined threads do for this machine: a call that is refused to one of
  // them ends it (kRefusedCall). For jobs that workers do for its devices.
  const std::shared_ptr<jail::Tenant>& tenant() const { return tenant_; }
  // Runs `function` here while this vCPU is paused.
  Status with_vcpu(uint32_t vcpu, const std::function<Status(Vcpu&)>& function);

  // All vCPUs start, or go on. FailedPrecondition once ended.
  Status resume();
  // Returns when no vCPU runs. FailedPrecondition when the machine has ended.
  Status pause();
  // Ends the machine; returns when no vCPU runs. Any number of times, from any thread but a vCPU's.
  void stop();
  // Ends the machine with this reason without waiting; for devices, on a vCPU thread (power off,
  // reset).
  void request_end(const MachineEnd& end);
  // The same, but on vCPU 0's thread and a moment later: for callers that hold locks which on_end()
  // listeners may want. Never blocks.
  void request_end_soon(const MachineEnd& end) { vcpus_.front()->request_end(end); }
  // The same as request_end(), for the machine's owner: its on_end() listeners are dropped, not
  // called. Never blocks.
  void abandon(const MachineEnd& end);

  // While paused.
  StatusOr<MachineState> save();

  // Why it ended; nothing while it lives.
  std::optional<MachineEnd> end() const;
  // Waits for the end until `deadline_ns` on CLOCK_MONOTONIC (0: for ever).
  std::optional<MachineEnd> wait_end(uint64_t deadline_ns) const;
  // `function` is called once, as soon as the machine has ended: on a vCPU's thread, on one of the
  // supervisor's, or on that of stop() or request_end(); at once when it has already. It must not
  // wait for the machine's threads, and on them it may make few system calls.
  void on_end(std::function<void(const MachineEnd&)> function);
  // Returns when no listener is running, and none is called any more. While no vCPU runs, and not
  // from a listener.
  void forget_listeners();

  uint32_t vcpus() const { return static_cast<uint32_t>(vcpus_.size()); }
  // The earliest first_exit_ns() of the vCPUs; 0 before it.
  uint64_t first_exit_ns() const;
  uint64_t exits() const;
  MachineUse use() const;
  // Of all its vCPU threads so far. Fails only where the host's clocks do.
  StatusOr<uint64_t> cpu_ns() const;
  const MachineTimes& times() const { return times_; }
  // CPUID feature bits that KVM set although the policy masks them; empty on hardware KVM.
  const std::string& returned_cpuid_bits() const { return returned_cpuid_bits_; }

 private:
  class Line : public IrqLine {
   public:
    void trigger() override { ioapic->pulse(gsi); }
    x86::Ioapic* ioapic = nullptr;
    uint32_t gsi = 0;
  };

  // From the IOAPIC to KVM. An interrupt that KVM does not take ends the machine: the guest would
  // wait for it for ever. It ends on vCPU 0's thread, for devices raise interrupts with their locks
  // held; and one too many makes the vCPUs wait before they enter the guest again, never who sends.
  class MsiPath : public x86::MsiSink {
   public:
    explicit MsiPath(Machine* machine) : machine_(*machine) {}
    void signal_msi(const x86::MsiMessage& message) override;
    uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }
    void begin_anew() { sent_ = 0; }

   private:
    Machine& machine_;
    std::atomic<uint64_t> sent_{0};
  };

  Machine(const Host& host, std::unique_ptr<GuestMemory> memory);
  static StatusOr<std::unique_ptr<Machine>> make(const Host& host,
                                                 std::unique_ptr<GuestMemory> memory,
                                                 std::vector<x86::CpuidEntry> cpuid);
  Status make_ioapic(std::unique_ptr<x86::Ioapic> ioapic);
  StatusOr<std::vector<std::unique_ptr<Vcpu>>> make_vcpus(uint32_t count);
  Status check_cpuid(const Vcpu& vcpu, std::span<const x86::CpuidEntry> asked);
  void finish(const MachineEnd& end, bool tell);
  // Of vCPUs that have run.
  Status restore_vcpus(const MachineState& state);
  // kvm-clock went on: the guest's watchdog is told why.
  void notify_paused();
  Status refuse_ended(const char* what) const;
  Status start_threads(std::vector<std::unique_ptr<Vcpu>> vcpus);

  const Host host_;
  const std::unique_ptr<GuestMemory> memory_;
  std::vector<x86::CpuidEntry> cpuid_;
  std::unique_ptr<Vm> vm_;
  MsiPath msi_path_{this};
  std::unique_ptr<x86::Ioapic> ioapic_;
  std::array<Line, x86::kIoApicPins> lines_;
  ExitHandler handler_;
  Governor governor_;
  MachineTimes times_;
  std::atomic<bool> was_paused_{false};
  std::string returned_cpuid_bits_;

  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  std::optional<MachineEnd> end_;
  std::vector<std::function<void(const MachineEnd&)>> end_listeners_;
  const std::shared_ptr<jail::Tenant> tenant_;

  std::vector<std::unique_ptr<VcpuThread>> vcpus_;  // last: their threads use all of the above
};

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_MACHINE_H_
