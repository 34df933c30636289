#include "vmm/kvm/capabilities.h"

#include "vmm/kvm/kvm_abi.h"

namespace ramet {
namespace {

constexpr CapabilityRow kTable[] = {
    {KVM_CAP_USER_MEMORY, "USER_MEMORY", true, "guest memory from this process"},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", true, "pause without a race"},
    {KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP", true, "LAPIC in the kernel, IOAPIC in Ramet"},
    {KVM_CAP_SIGNAL_MSI, "SIGNAL_MSI", true, "device interrupts"},
    {KVM_CAP_EXT_CPUID, "EXT_CPUID", true, "the CPU model of a template"},
    {KVM_CAP_MP_STATE, "MP_STATE", true, "save and restore"},
    {KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS", true, "save and restore"},
    {KVM_CAP_DEBUGREGS, "DEBUGREGS", true, "save and restore"},
    {KVM_CAP_XCRS, "XCRS", true, "save and restore"},
    {KVM_CAP_XSAVE2, "XSAVE2", true, "save and restore of the whole vector state"},
    {KVM_CAP_SREGS2, "SREGS2", true, "save and restore"},
    {KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK", true, "the guest's clock after a fork"},
    {KVM_CAP_GET_TSC_KHZ, "GET_TSC_KHZ", true, "guest timers"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER", false, "one-shot guest timers"},
    {KVM_CAP_TSC_CONTROL, "TSC_CONTROL", false, "templates from a host with another TSC rate"},
    {KVM_CAP_KVMCLOCK_CTRL, "KVMCLOCK_CTRL", false, "no soft-lockup report after a pause"},
    {KVM_CAP_HALT_POLL, "HALT_POLL", false, "idle guests that cost no CPU"},
    {KVM_CAP_PRE_FAULT_MEMORY, "PRE_FAULT_MEMORY", false, "working sets that are mapped at once"},
    {KVM_CAP_SYNC_REGS, "SYNC_REGS", false, "a call less at each fork and reset"},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD", false, "busy queues"},
};

}  // namespace

std::span<const CapabilityRow> capability_table() { return kTable; }

}  // namespace ramet
