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

}  // namespace

std::span<const jail::IoctlRow> vcpu_thread_ioctls() { return kVcpuIoctls; }
std::span<const jail::IoctlRow> worker_thread_ioctls() { return kWorkerIoctls; }

}  // namespace ramet
