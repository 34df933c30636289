#include "vmm/machine/policy_facts.h"

#include "vmm/kvm/thread_ioctls.h"
#include "vmm/machine/vcpu_thread.h"

namespace ramet {

jail::PolicyFacts machine_policy_facts() {
  return {.kick_signal = vcpu_kick_signal(),
          .vcpu_ioctls = vcpu_thread_ioctls(),
          .worker_ioctls = worker_thread_ioctls(),
          .helper_ioctls = helper_thread_ioctls()};
}

}  // namespace ramet
