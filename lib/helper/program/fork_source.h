// ForkSource: what a helper or worker process makes machines from: a template's plan and the memory
// that it counts on.
//
// Thread rule: immutable once made.
#ifndef RAMET_LIB_HELPER_PROGRAM_FORK_SOURCE_H_
#define RAMET_LIB_HELPER_PROGRAM_FORK_SOURCE_H_

#include <memory>
#include <vector>

#include "lib/helper/wire/plan.h"
#include "lib/instance/machine_source.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet::helper {

struct ForkSource {
  UniqueFd memory;
  Plan plan;  // of whose memory the first file is `memory`

  MachineSource machine_source() const {
    return {.memory = plan.memory, .state = &plan.state.machine, .working_set = &plan.working_set};
  }
};

// `plan` holds the bytes of a plan, `files` what it counts on.
StatusOr<std::shared_ptr<const ForkSource>> read_source(UniqueFd memory, const UniqueFd& plan,
                                                        std::vector<UniqueFd> files);

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_FORK_SOURCE_H_
