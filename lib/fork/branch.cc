#include "lib/fork/branch.h"

#include <utility>

#include "lib/core/pressure_gate.h"
#include "vmm/base/clock.h"

namespace ramet {

StatusOr<std::shared_ptr<const TemplateData>> branch_of(InstanceSnapshot snapshot,
                                                        const TemplateData& from) {
  auto data = std::make_shared<TemplateData>();
  RAMET_ASSIGN_OR_RETURN(data->memory, from.memory->with_pages(snapshot.pages));
  data->state = std::move(snapshot.state);
  data->disks = {.root = from.disks.root, .scratch = std::move(snapshot.scratch)};
  data->root = from.root;
  // Up to its first reply a fork of it does what one of that template does.
  data->working_set = from.working_set;
  data->kernel_release = from.kernel_release;
  data->created_unix_seconds = realtime_ns() / 1'000'000'000;
  return std::shared_ptr<const TemplateData>(std::move(data));
}

StatusOr<std::shared_ptr<const TemplateData>> branch_sandbox(SandboxMachine* box,
                                                             const TemplateData& from,
                                                             uint64_t deadline_ns) {
  Engine* engine = box->engine().get();
  RAMET_RETURN_IF_ERROR(engine->check_process());
  // It holds memory as a fork does.
  RAMET_RETURN_IF_ERROR(annotate(engine->admit(deadline_ns), "snapshot"));
  auto snapshot = box->snapshot(deadline_ns);
  if (!snapshot.ok()) {
    return annotate(as_busy(snapshot.status()), "snapshot");
  }
  auto data = branch_of(*std::move(snapshot), from);
  if (!data.ok()) {
    return annotate(as_busy(data.status()), "snapshot");
  }
  return data;
}

}  // namespace ramet
