// branch_sandbox: a running sandbox becomes a template, and goes on.
//
// Thread rule: from any thread; of one sandbox one at a time.
// Invariant: the template is the sandbox as it was at one moment, its memory a layer over the
// memory of the template that it was forked from; where it fails nothing of it is left. The guest
// stands still for as long as its own pages take to be copied; all else is done before or after.
#ifndef RAMET_LIB_FORK_BRANCH_H_
#define RAMET_LIB_FORK_BRANCH_H_

#include <cstdint>
#include <memory>

#include "lib/core/sandbox_machine.h"
#include "lib/core/template_data.h"
#include "vmm/base/status.h"

namespace ramet {

// `from` is what it was forked from. `deadline_ns`: until the guest's processes are held.
StatusOr<std::shared_ptr<const TemplateData>> branch_sandbox(SandboxMachine* box,
                                                             const TemplateData& from,
                                                             uint64_t deadline_ns);

// The rest of it, for tests and benches of machines without an agent.
StatusOr<std::shared_ptr<const TemplateData>> branch_of(InstanceSnapshot snapshot,
                                                        const TemplateData& from);

}  // namespace ramet

#endif  // RAMET_LIB_FORK_BRANCH_H_
