#include "vmm/kvm/thread_ioctls.h"

#include <array>

#include "vmm/kvm/kvm_abi.h"

namespace ramet {
namespace {

constexpr std::array kVcpuIoctls = {
    jail::IoctlRow{"KVM_RUN", KVM_RUN, "Vcpu::run"},
    jail::IoctlRow{"KVM_SIGNAL_MSI", KVM_SIGNAL_MSI, "Vm::signal_msi: devices on a vCPU's exit"},
};
constexpr std::array kWorkerIoctls = {
    jail::IoctlRow{"KVM_SIGNAL_MSI", KVM_SIGNAL_MSI, "Vm::signal_msi: a disk request is done"},
};
constexpr std::array kHelperIoctls = {
    jail::IoctlRow{"KVM_CHECK_EXTENSION", KVM_CHECK_EXTENSION, "Kvm::capability",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_CREATE_VM", KVM_CREATE_VM, "Vm::create", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_ENABLE_CAP", KVM_ENABLE_CAP, "Vm::create: the interrupt controllers",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_TSS_ADDR", KVM_SET_TSS_ADDR, "Vm::create, on Intel",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_IDENTITY_MAP_ADDR", KVM_SET_IDENTITY_MAP_ADDR, "Vm::create, on Intel",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_USER_MEMORY_REGION", KVM_SET_USER_MEMORY_REGION, "Vm::set_memory",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_CREATE_VCPU", KVM_CREATE_VCPU, "Vcpu::create", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_CPUID2", KVM_SET_CPUID2, "Vcpu::set_cpuid", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_CPUID2", KVM_GET_CPUID2, "Machine::check_cpuid",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_SIGNAL_MASK", KVM_SET_SIGNAL_MASK, "Vcpu::unblock_in_run",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_TSC_KHZ", KVM_GET_TSC_KHZ, "Machine::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_TSC_KHZ", KVM_SET_TSC_KHZ, "Machine::restore, where the rates differ",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_CLOCK", KVM_SET_CLOCK, "Vm::set_clock_ns", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_SREGS2", KVM_SET_SREGS2, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_XCRS", KVM_SET_XCRS, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_XSAVE", KVM_SET_XSAVE, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_MSRS", KVM_SET_MSRS, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_LAPIC", KVM_SET_LAPIC, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_VCPU_EVENTS", KVM_SET_VCPU_EVENTS, "Vcpu::restore",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_DEBUGREGS", KVM_SET_DEBUGREGS, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_REGS", KVM_SET_REGS, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SET_MP_STATE", KVM_SET_MP_STATE, "Vcpu::restore", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_PRE_FAULT_MEMORY", KVM_PRE_FAULT_MEMORY, "Vcpu::pre_fault",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_MP_STATE", KVM_GET_MP_STATE, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_REGS", KVM_GET_REGS, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_SREGS2", KVM_GET_SREGS2, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_XCRS", KVM_GET_XCRS, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_XSAVE2", KVM_GET_XSAVE2, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_MSRS", KVM_GET_MSRS, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_LAPIC", KVM_GET_LAPIC, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS, "Vcpu::save",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_DEBUGREGS", KVM_GET_DEBUGREGS, "Vcpu::save", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_GET_CLOCK", KVM_GET_CLOCK, "Vm::clock_ns", jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_KVMCLOCK_CTRL", KVM_KVMCLOCK_CTRL, "Vcpu::notify_paused",
                   jail::Seen::kElsewhere},
    jail::IoctlRow{"KVM_SIGNAL_MSI", KVM_SIGNAL_MSI,
                   "Vm::signal_msi: the event of a new generation id", jail::Seen::kElsewhere},
};

}  // namespace

std::span<const jail::IoctlRow> vcpu_thread_ioctls() { return kVcpuIoctls; }
std::span<const jail::IoctlRow> worker_thread_ioctls() { return kWorkerIoctls; }
std::span<const jail::IoctlRow> helper_thread_ioctls() { return kHelperIoctls; }

}  // namespace ramet
