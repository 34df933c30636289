#include "lib/fork/train.h"

#include "lib/core/local_machine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_builder.h"
#include "lib/fork/fork.h"
#include "lib/fork/identity.h"
#include "vmm/base/clock.h"
#include "vmm/memory/fault_around.h"

namespace ramet {
namespace {

StatusOr<WorkingSet> touched_by_a_fork(const std::shared_ptr<Engine>& engine,
                                       const TemplateData& from, const TrainSpec& spec) {
  RAMET_ASSIGN_OR_RETURN(std::string hostname, random_hostname());
  RAMET_ASSIGN_OR_RETURN(const wire::Reseed reseed, make_reseed(hostname));
  RAMET_ASSIGN_OR_RETURN(auto machine, make_machine(engine->instance_host().machine,
                                                    from.machine_source(), Prefetch::kYes));
  // Until what was touched has been read.
  const auto exact = FaultAroundOff::create(machine->memory());
  RAMET_ASSIGN_OR_RETURN(auto instance, restore_instance(engine.get(), from, reseed.generation, {},
                                                         std::move(machine)));
  SandboxMachine box(engine, std::make_unique<LocalMachine>(std::move(instance)),
                     std::move(hostname), {});
  RAMET_RETURN_IF_ERROR(box.start(reseed, monotonic_ns() + spec.ready_timeout_ns));
  for (const auto& argv : spec.commands) {
    ExecSpec command;
    command.argv = argv;
    command.env = default_environment();
    command.timeout_ns = spec.command_timeout_ns;
    RAMET_RETURN_IF_ERROR(box.exec(command).status());
  }
  RAMET_RETURN_IF_ERROR(box.life().pause());
  RAMET_ASSIGN_OR_RETURN(WorkingSet touched, box.life().touched());
  if (!exact.ok()) {
    touched.read.clear();
  }
  return touched;
}

}  // namespace

StatusOr<WorkingSet> train(const std::shared_ptr<Engine>& engine, const TemplateData& from,
                           const TrainSpec& spec) {
  RAMET_ASSIGN_OR_RETURN(const WorkingSet first, touched_by_a_fork(engine, from, spec));
  RAMET_ASSIGN_OR_RETURN(const WorkingSet second, touched_by_a_fork(engine, from, spec));
  WorkingSet both = {.written = common(first.written, second.written)};
  // One may have written what the other read.
  both.read = without(
      common(united(first.written, first.read), united(second.written, second.read)), both.written);
  return both;
}

}  // namespace ramet
