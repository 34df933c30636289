// Names of system calls, for people and for rows of a policy.
//
// Thread rule: pure functions.
#ifndef RAMET_VMM_JAIL_SYSCALL_NAME_H_
#define RAMET_VMM_JAIL_SYSCALL_NAME_H_

#include "vmm/jail/supervisor.h"
#include "vmm/jail/tenant.h"

namespace ramet::jail {

// A call of another table than this processor's own keeps its number as its name, which no row has.
RefusedCall describe(ThreadKind kind, const HeldCall& call);

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_SYSCALL_NAME_H_
