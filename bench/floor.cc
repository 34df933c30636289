#include "bench/floor.h"

#include <ctime>

#include "bench/floor_kvm.h"

namespace ramet::bench {
namespace {

uint64_t now_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

void make_vm(const FloorTemplate& floor, int sharing, FloorVm* machine, Calls* calls,
             FloorResult* times) {
  const uint64_t start = now_ns();
  machine->vm = static_cast<int>(calls->io(floor.kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM"));
  const uint64_t made = now_ns();
  kvm_enable_cap split = {};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = 24;
  calls->io(machine->vm, KVM_ENABLE_CAP, &split, "KVM_CAP_SPLIT_IRQCHIP");
  if (floor.intel) {
    uint64_t identity_map = 0xfffbc000;
    calls->io(machine->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR");
    calls->io(machine->vm, KVM_SET_TSS_ADDR, 0xfffbd000UL, "KVM_SET_TSS_ADDR");
  }
  const uint64_t irqchip = now_ns();
  machine->memory = ::mmap(nullptr, floor.memory_bytes, PROT_READ | PROT_WRITE,
                           sharing | MAP_NORESERVE, floor.memfd, 0);
  calls->note("mmap of guest memory", machine->memory == MAP_FAILED ? -1 : 0);
  kvm_userspace_memory_region slot = {};
  slot.memory_size = floor.memory_bytes;
  slot.userspace_addr = reinterpret_cast<uint64_t>(machine->memory);
  calls->io(machine->vm, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION");
  const uint64_t memory = now_ns();
  machine->vcpu = static_cast<int>(calls->io(machine->vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU"));
  if (calls->ok()) {
    machine->run =
        ::mmap(nullptr, floor.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu, 0);
    calls->note("mmap of kvm_run", machine->run == MAP_FAILED ? -1 : 0);
  }
  const uint64_t vcpu = now_ns();
  calls->io(machine->vcpu, KVM_SET_CPUID2, floor.state.cpuid.get(), "KVM_SET_CPUID2");
  times->create_vm_ns = made - start;
  times->irqchip_ns = irqchip - made;
  times->memory_ns = memory - irqchip;
  times->vcpu_ns = vcpu - memory;
  times->cpuid_ns = now_ns() - vcpu;
}

void destroy(const FloorTemplate& floor, FloorVm* machine) {
  if (machine->run != MAP_FAILED) {
    ::munmap(machine->run, floor.run_bytes);
  }
  ::close(machine->vcpu);  // -1 where it was not made: EBADF
  ::close(machine->vm);
  if (machine->memory != MAP_FAILED) {
    ::munmap(machine->memory, floor.memory_bytes);
  }
}

void restore(const FloorTemplate& floor, const FloorVm& machine, Calls* calls) {
  SavedState& state = floor.state;
  const int vcpu = machine.vcpu;
  calls->io(machine.vm, KVM_SET_CLOCK, &state.clock, "KVM_SET_CLOCK");
  calls->io(vcpu, KVM_SET_SREGS2, &state.sregs, "KVM_SET_SREGS2");
  calls->io(vcpu, KVM_SET_XCRS, &state.xcrs, "KVM_SET_XCRS");
  calls->io(vcpu, KVM_SET_XSAVE, state.xsave.data(), "KVM_SET_XSAVE");
  calls->io(vcpu, KVM_SET_MSRS, state.msrs.get(), "KVM_SET_MSRS");
  calls->io(vcpu, KVM_SET_LAPIC, &state.lapic, "KVM_SET_LAPIC");
  calls->io(vcpu, KVM_SET_VCPU_EVENTS, &state.events, "KVM_SET_VCPU_EVENTS");
  calls->io(vcpu, KVM_SET_DEBUGREGS, &state.debugregs, "KVM_SET_DEBUGREGS");
  calls->io(vcpu, KVM_SET_REGS, &state.regs, "KVM_SET_REGS");
  calls->io(vcpu, KVM_SET_MP_STATE, &state.mp_state, "KVM_SET_MP_STATE");
}

namespace {

// Until the guest writes the port.
void run(const FloorVm& machine, Calls* calls) {
  calls->io(machine.vcpu, KVM_RUN, 0, "KVM_RUN");
  const auto* run = static_cast<const kvm_run*>(machine.run);
  if (calls->ok() && (run->exit_reason != KVM_EXIT_IO || run->io.port != 0x500)) {
    calls->note("the guest's first exit is its port write", -1);
  }
}

FloorResult fork_to_first_exit(const FloorTemplate& floor, FloorVm* machine) {
  FloorResult result;
  Calls calls(&result);
  const uint64_t start = now_ns();
  make_vm(floor, MAP_PRIVATE, machine, &calls, &result);
  const uint64_t made = now_ns();
  restore(floor, *machine, &calls);
  const uint64_t restored = now_ns();
  run(*machine, &calls);
  const uint64_t exited = now_ns();
  result.restore_ns = restored - made;
  result.run_ns = exited - restored;
  result.total_ns = exited - start;
  return result;
}

}  // namespace

FloorResult floor_fork_once(const FloorTemplate& floor) {
  FloorVm machine;
  FloorResult result = fork_to_first_exit(floor, &machine);
  const uint64_t exited = now_ns();
  destroy(floor, &machine);
  result.teardown_ns = now_ns() - exited;
  return result;
}

FloorResult floor_fork_and_keep(const FloorTemplate& floor) {
  FloorVm machine;
  return fork_to_first_exit(floor, &machine);
}

FloorResult floor_reset(const FloorTemplate& floor, int resets,
                        const std::function<void(uint64_t ns)>& each) {
  FloorResult result;
  Calls calls(&result);
  FloorVm machine;
  make_vm(floor, MAP_PRIVATE, &machine, &calls, &result);
  restore(floor, machine, &calls);
  for (int i = 0; i < resets && calls.ok(); ++i) {
    run(machine, &calls);
    const uint64_t start = now_ns();
    calls.note("madvise", ::madvise(machine.memory, floor.memory_bytes, MADV_DONTNEED));
    restore(floor, machine, &calls);
    each(now_ns() - start);
  }
  destroy(floor, &machine);
  return result;
}

}  // namespace ramet::bench
