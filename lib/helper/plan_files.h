// PlanFiles: what a process is sent to make machines of a template from: descriptors that nothing
// can be written through.
//
// Thread rule: one thread.
#ifndef RAMET_LIB_HELPER_PLAN_FILES_H_
#define RAMET_LIB_HELPER_PLAN_FILES_H_

#include <cstdint>

#include "lib/helper/channel.h"
#include "lib/helper/wire/plan.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet::helper {

// What a machine is a fork of.
struct PlanSource {
  const InstanceState* state = nullptr;
  MemoryView memory = {};
  const Disks* disks = nullptr;
  const WorkingSet* working_set = nullptr;
};

// What goes with the Fork or the Learn that follows.
struct PlanFiles {
  UniqueFd memory;
  UniqueFd plan;
};

// Sends the descriptors that the plan counts on.
StatusOr<PlanFiles> send_plan(RequestChannel* channel, const PlanSource& source,
                              uint64_t deadline_ns);

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PLAN_FILES_H_
