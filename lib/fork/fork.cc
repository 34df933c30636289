#include "lib/fork/fork.h"

#include <absl/cleanup/cleanup.h>

#include "lib/agent/wire.h"
#include "lib/core/local_machine.h"
#include "lib/core/pressure_gate.h"
#include "lib/fork/identity.h"
#include "lib/fork/rewind_memory.h"
#include "vmm/base/clock.h"

namespace ramet {
namespace {

// Pages that are made ready ahead count as the sandbox's own from the beginning: not with a limit
// that they would use up.
Prefetch prefetch_for(const TemplateData& from, const ForkSpec& spec) {
  const uint64_t ahead = pages_in(from.working_set.written) * kPageSize;
  const uint64_t allowed = spec.limits.private_bytes;
  return allowed != 0 && ahead > allowed / 2 ? Prefetch::kNo : spec.prefetch;
}

// Pages are made ready in every machine that is made ahead.
bool may_take_shell(const TemplateData& from, const ForkSpec& spec) {
  return spec.use_shell != ShellUse::kNone &&
         (prefetch_for(from, spec) == Prefetch::kYes || from.working_set.empty());
}

std::unique_ptr<Machine> take_shell(const TemplateData& from, const ForkSpec& spec) {
  if (spec.shells == nullptr || !may_take_shell(from, spec)) {
    return nullptr;
  }
  return spec.use_shell == ShellUse::kWait ? spec.shells->wait(spec.ready_deadline_ns)
                                           : spec.shells->take();
}

// A fork in another process.
helper::HelperFork apart(Engine* engine, const TemplateData& from, const GenerationId& generation,
                         const ForkSpec& spec) {
  return {.from = {.state = &from.state,
                   .memory = from.memory->view(),
                   .disks = &from.disks,
                   .working_set = &from.working_set},
          .image = from.memory,
          .learned = spec.learned,
          .generation = generation,
          .console = spec.console,
          .limits = spec.limits,
          .first_port = spec.first_port,
          .prefetch = prefetch_for(from, spec) == Prefetch::kYes,
          .take_shell = may_take_shell(from, spec),
          .refill_shells = spec.use_shell != ShellUse::kNone && !engine->gate().is_short(),
          .deadline_ns = spec.ready_deadline_ns};
}

void refill_shells(const ForkSpec& spec) {
  if (spec.shells != nullptr && spec.use_shell != ShellUse::kNone &&
      spec.isolation == Isolation::kInProcess) {
    spec.shells->refill();
  }
}

}  // namespace

std::span<const PageRange> made_ready(const TemplateData& from, const ForkSpec& spec) {
  const bool does =
      spec.isolation == Isolation::kInProcess && prefetch_for(from, spec) == Prefetch::kYes;
  return does ? std::span<const PageRange>(from.working_set.written) : std::span<const PageRange>();
}

StatusOr<std::unique_ptr<Instance>> restore_instance(Engine* engine, const TemplateData& from,
                                                     const GenerationId& generation,
                                                     InstanceOptions options,
                                                     std::unique_ptr<Machine> shell,
                                                     Prefetch prefetch) {
  options.disks = from.disks;
  const InstanceHost host = engine->instance_host();
  if (shell == nullptr) {
    RAMET_ASSIGN_OR_RETURN(shell, make_machine(host.machine, from.machine_source(), prefetch));
  }
  RAMET_ASSIGN_OR_RETURN(auto instance,
                         Instance::restore(host, std::move(shell), from.state, std::move(options)));
  RAMET_RETURN_IF_ERROR(instance->change_generation(generation));
  return instance;
}

StatusOr<std::unique_ptr<ForkedMachine>> fork_machine(Engine* engine, const TemplateData& from,
                                                      const GenerationId& generation,
                                                      const ForkSpec& spec) {
  if (spec.isolation == Isolation::kHelper) {
    RAMET_ASSIGN_OR_RETURN(const auto host, engine->helper_host());
    return helper::HelperMachine::fork(host, apart(engine, from, generation, spec));
  }
  auto place = engine->place_here();
  if (place == nullptr) {
    RAMET_ASSIGN_OR_RETURN(const auto worker, engine->worker_place(spec.ready_deadline_ns));
    return helper::HelperMachine::fork_in(worker.seat, worker.host,
                                          apart(engine, from, generation, spec));
  }
  RAMET_ASSIGN_OR_RETURN(
      auto instance,
      restore_instance(engine, from, generation, {.console = spec.console, .limits = spec.limits},
                       take_shell(from, spec), prefetch_for(from, spec)));
  return std::make_unique<LocalMachine>(std::move(instance), std::move(place));
}

namespace {

// Relieves the host once where it lacks something.
StatusOr<std::unique_ptr<ForkedMachine>> fork_when_relieved(Engine* engine,
                                                            const TemplateData& from,
                                                            const GenerationId& generation,
                                                            const ForkSpec& spec) {
  ForkSpec talking = spec;
  talking.first_port = wire::kAgentPort;  // as SandboxMachine::start() does
  auto forked = fork_machine(engine, from, generation, talking);
  if (is_want(forked.status())) {
    engine->relieve();
    forked = fork_machine(engine, from, generation, talking);
  }
  if (!forked.ok()) {
    return as_busy(forked.status());
  }
  return forked;
}

uint64_t ready_at(const ForkedMachine& machine) {
  return machine.ready_ns() != 0 ? machine.ready_ns() : monotonic_ns();
}

StatusOr<wire::Reseed> reseed_for(const ForkSpec& spec) {
  std::string hostname = spec.hostname;
  if (hostname.empty()) {
    RAMET_ASSIGN_OR_RETURN(hostname, random_hostname());
  }
  RAMET_RETURN_IF_ERROR(check_hostname(hostname));
  return make_reseed(hostname);
}

// Rewinds, with the pages that forks touch first made ready.
Status rewind(Engine* engine, const TemplateData& from, const ForkSpec& spec, Machine* machine) {
  if (prefetch_for(from, spec) == Prefetch::kNo || from.working_set.empty()) {
    return machine->rewind(from.state.machine);
  }
  RAMET_ASSIGN_OR_RETURN(const Pagemap* pagemap, engine->instance_host().watch->pagemap());
  WorkingSet missing;
  RAMET_RETURN_IF_ERROR(machine->rewind(from.state.machine, [&](GuestMemory& memory) -> Status {
    RAMET_ASSIGN_OR_RETURN(missing,
                           rewind_memory(memory, *from.memory, from.working_set, *pagemap));
    return Status();
  }));
  machine->prefetch(missing).IgnoreError();  // the guest's faults do it then
  return Status();
}

// A machine of the template's of a used one.
StatusOr<std::unique_ptr<ForkedMachine>> fork_again(Engine* engine, const TemplateData& from,
                                                    const GenerationId& generation,
                                                    const ForkSpec& spec,
                                                    std::shared_ptr<ForkedMachine> used) {
  std::unique_ptr<Machine> machine = used->take_machine();
  if (machine == nullptr) {
    engine->reap([used = std::move(used)]() mutable {
      used->stop();
      used.reset();
    });
    return fork_when_relieved(engine, from, generation, spec);
  }
  if (!rewind(engine, from, spec, machine.get()).ok()) {
    engine->reap(
        [machine = std::shared_ptr<Machine>(std::move(machine))]() mutable { machine.reset(); });
    return fork_when_relieved(engine, from, generation, spec);
  }
  RAMET_ASSIGN_OR_RETURN(
      auto instance,
      restore_instance(engine, from, generation, {.console = spec.console, .limits = spec.limits},
                       std::move(machine)));
  return std::make_unique<LocalMachine>(std::move(instance), used->place());
}

}  // namespace

StatusOr<std::unique_ptr<SandboxMachine>> fork_sandbox(std::shared_ptr<Engine> engine,
                                                       const TemplateData& from,
                                                       const ForkSpec& spec) {
  SandboxTimes times = {.fork_called = monotonic_ns()};
  RAMET_RETURN_IF_ERROR(engine->check_process());
  RAMET_ASSIGN_OR_RETURN(const wire::Reseed reseed, reseed_for(spec));
  RAMET_RETURN_IF_ERROR(annotate(engine->admit(spec.ready_deadline_ns), "fork"));
  // Not before this fork is done: making a machine and the guest's first faults want the same
  // locks.
  const absl::Cleanup refill = [&] { refill_shells(spec); };
  auto forked = fork_when_relieved(engine.get(), from, reseed.generation, spec);
  RAMET_RETURN_IF_ERROR(annotate(forked.status(), "fork"));
  times.shell_ready = ready_at(**forked);
  auto machine = std::make_unique<SandboxMachine>(std::move(engine), *std::move(forked),
                                                  reseed.hostname, times);
  RAMET_RETURN_IF_ERROR(annotate(machine->start(reseed, spec.ready_deadline_ns), "fork"));
  return machine;
}

Status reset_sandbox(SandboxMachine* box, const TemplateData& from, const ForkSpec& spec) {
  SandboxTimes times = {.fork_called = monotonic_ns()};
  Engine* engine = box->engine().get();
  RAMET_RETURN_IF_ERROR(engine->check_process());
  RAMET_ASSIGN_OR_RETURN(const wire::Reseed reseed, reseed_for(spec));
  RAMET_ASSIGN_OR_RETURN(auto used, box->begin_reset());
  auto machine = fork_again(engine, from, reseed.generation, spec, std::move(used));
  times.shell_ready = machine.ok() ? ready_at(**machine) : 0;
  return annotate(box->end_reset(std::move(machine), reseed, times, spec.ready_deadline_ns),
                  "reset");
}

}  // namespace ramet
