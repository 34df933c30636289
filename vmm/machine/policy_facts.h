// What a machine's threads need of the kernel, for the policies of vmm/jail.
//
// Thread rule: pure function.
#ifndef RAMET_VMM_MACHINE_POLICY_FACTS_H_
#define RAMET_VMM_MACHINE_POLICY_FACTS_H_

#include "vmm/jail/policy.h"

namespace ramet {

// KVM's ioctls and the kick signal; the jail fills in the rest.
jail::PolicyFacts machine_policy_facts();

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_POLICY_FACTS_H_
