#include "lib/fork/train.h"

#include <chrono>
#include <thread>
#include <utility>

#include "lib/core/local_machine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_builder.h"
#include "lib/fork/fork.h"
#include "lib/fork/identity.h"
#include "vmm/base/clock.h"
#include "vmm/memory/fault_around.h"

namespace ramet {
namespace {

// What a guest does behind its answer (its timers, RCU, the next command's group) a slower fork
// does before it. 25 ticks of a Debian kernel.
constexpr uint64_t kSettleNs = 100'000'000;

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
  std::this_thread::sleep_for(std::chrono::nanoseconds(kSettleNs));
  RAMET_RETURN_IF_ERROR(box.life().pause());
  RAMET_ASSIGN_OR_RETURN(WorkingSet touched, box.life().touched());
  if (!exact.ok()) {
    touched.read.clear();
  }
  return touched;
}

struct Two {
  WorkingSet first;
  WorkingSet second;
};

StatusOr<Two> touched_by_two(const std::shared_ptr<Engine>& engine, const TemplateData& from,
                             const TrainSpec& spec) {
  RAMET_ASSIGN_OR_RETURN(WorkingSet first, touched_by_a_fork(engine, from, spec));
  RAMET_ASSIGN_OR_RETURN(WorkingSet second, touched_by_a_fork(engine, from, spec));
  return Two{std::move(first), std::move(second)};
}

}  // namespace

StatusOr<WorkingSet> train(const std::shared_ptr<Engine>& engine, const TemplateData& from,
                           const TrainSpec& spec) {
  RAMET_ASSIGN_OR_RETURN(const Two slow, touched_by_two(engine, from, spec));
  WorkingSet set = {.written = common(slow.first.written, slow.second.written)};
  // One may have written what the other read.
  const auto read = common(united(slow.first.written, slow.first.read),
                           united(slow.second.written, slow.second.read));
  set.read = without(read, set.written);
  TemplateData known = from;
  known.working_set = set;
  // What these read is not known: fault-around was on while their pages were made ready.
  RAMET_ASSIGN_OR_RETURN(const Two quick, touched_by_two(engine, known, spec));
  set.written = united(set.written, common(quick.first.written, quick.second.written));
  set.read = without(read, set.written);
  return set;
}

}  // namespace ramet
