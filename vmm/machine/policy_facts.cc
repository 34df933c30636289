#include "vmm/machine/policy_facts.h"

#include <array>

#include "vmm/kvm/thread_ioctls.h"
#include "vmm/machine/vcpu_thread.h"
#include "vmm/memory/pagemap.h"

namespace ramet {
namespace {

constexpr std::array kWatchIoctls = {jail::IoctlRow{
    "PAGEMAP_SCAN", kPagemapScanRequest,
    "Pagemap: private memory of a machine that has a limit of it", jail::Seen::kElsewhere}};

}  // namespace

jail::PolicyFacts machine_policy_facts() {
  return {.kick_signal = vcpu_kick_signal(),
          .vcpu_ioctls = vcpu_thread_ioctls(),
          .worker_ioctls = worker_thread_ioctls(),
          .watch_ioctls = kWatchIoctls,
          .helper_ioctls = helper_thread_ioctls()};
}

}  // namespace ramet
