#include "lib/fork/fork.h"

#include "lib/core/local_machine.h"
#include "lib/core/pressure_gate.h"
#include "lib/fork/identity.h"
#include "vmm/base/clock.h"

namespace ramet {

StatusOr<std::unique_ptr<Instance>> restore_instance(Engine* engine, const TemplateData& from,
                                                     const GenerationId& generation,
                                                     InstanceOptions options) {
  options.disks = from.disks;
  RAMET_ASSIGN_OR_RETURN(
      auto memory,
      GuestMemory::create(from.memory->fd(), from.state.machine.regions, MapMode::kPrivate));
  RAMET_ASSIGN_OR_RETURN(auto instance,
                         Instance::restore(engine->instance_host(), std::move(memory), from.state,
                                           std::move(options)));
  RAMET_RETURN_IF_ERROR(instance->change_generation(generation));
  return instance;
}

StatusOr<std::unique_ptr<ForkedMachine>> fork_machine(Engine* engine, const TemplateData& from,
                                                      const GenerationId& generation,
                                                      const ForkSpec& spec) {
  if (spec.isolation == Isolation::kHelper) {
    RAMET_ASSIGN_OR_RETURN(const auto host, engine->helper_host());
    return helper::HelperMachine::fork(host, {.state = &from.state,
                                              .memory = from.memory->fd(),
                                              .disks = &from.disks,
                                              .generation = generation,
                                              .console = spec.console,
                                              .limits = spec.limits,
                                              .deadline_ns = spec.ready_deadline_ns});
  }
  RAMET_ASSIGN_OR_RETURN(
      auto instance,
      restore_instance(engine, from, generation, {.console = spec.console, .limits = spec.limits}));
  return std::make_unique<LocalMachine>(std::move(instance));
}

StatusOr<std::unique_ptr<SandboxMachine>> fork_sandbox(std::shared_ptr<Engine> engine,
                                                       const TemplateData& from,
                                                       const ForkSpec& spec) {
  SandboxTimes times = {.fork_called = monotonic_ns()};
  RAMET_RETURN_IF_ERROR(engine->check_process());
  std::string hostname = spec.hostname;
  if (hostname.empty()) {
    RAMET_ASSIGN_OR_RETURN(hostname, random_hostname());
  }
  RAMET_RETURN_IF_ERROR(check_hostname(hostname));
  RAMET_ASSIGN_OR_RETURN(const wire::Reseed reseed, make_reseed(hostname));
  RAMET_RETURN_IF_ERROR(annotate(engine->admit(spec.ready_deadline_ns), "fork"));
  const auto make = [&] { return fork_machine(engine.get(), from, reseed.generation, spec); };
  auto forked = make();
  if (is_want(forked.status())) {
    engine->relieve();
    forked = make();
  }
  RAMET_RETURN_IF_ERROR(annotate(as_busy(forked.status()), "fork"));
  times.shell_ready = monotonic_ns();
  auto machine = std::make_unique<SandboxMachine>(std::move(engine), *std::move(forked),
                                                  std::move(hostname), times);
  RAMET_RETURN_IF_ERROR(annotate(machine->start(reseed, spec.ready_deadline_ns), "fork"));
  return machine;
}

}  // namespace ramet
