#include "tests/guests/life.h"

#include <filesystem>

#include "devices/block/abi.h"
#include "lib/core/engine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_data.h"
#include "lib/fork/branch.h"
#include "lib/fork/fork.h"
#include "lib/store/template_store.h"
#include "tests/guests/agent.h"
#include "tests/guests/runner.h"
#include "tests/support/guest_code.h"
#include "tests/support/place.h"
#include "vmm/base/clock.h"
#include "vmm/memory/mapping.h"

namespace ramet::testing {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kScratchBytes = 1 << 20;
constexpr Ring kDisk = {kScratchSlot, 0, 128};
constexpr uint64_t kRequest = kFreeMemory;
constexpr uint64_t kEvent = kFreeMemory + 0x200;

uint64_t patience() { return obedience_ns(); }

// Writes a block to its disk, sleeps until it is a fork, is reseeded, and answers each command
// after another write.
void behave(GuestBuilder& guest, int commands) {
  AgentScript agent(&guest);
  guest.put_object(kRequest, block::RequestHeader{.type = block::kTypeOut});
  guest.descriptor(kDisk, 0, {kRequest, 16, virtio::kDescNext, 1});
  guest.descriptor(kDisk, 1, {kRequest + 0x1000, 4096, virtio::kDescNext, 2});
  guest.descriptor(kDisk, 2, {kRequest + 0x100, 1, virtio::kDescWrite, 0});
  guest.all_available(kDisk, 1);
  guest.descriptor(kVsockEvents, 0, {kEvent, 4, virtio::kDescWrite, 0});
  guest.all_available(kVsockEvents, 1);
  guest.bring_up({kDisk});
  const auto store = [&] {
    guest.submit(kDisk);
    guest.wait_used(kDisk);
  };
  store();
  guest.submit(kVsockEvents);
  guest.round();
  agent.reseed_well_unless_named(kHungHostname);
  for (int i = 0; i < commands; ++i) {
    agent.take_request();
    store();
    agent.say(wire::Exit{});
  }
  agent.stop();
}

// As behave(), but for ever, and with the number of each command in what it writes.
void serve(GuestBuilder& guest, uint32_t vcpus) {
  AgentScript agent(&guest);
  guest.put_object(kRequest, block::RequestHeader{.type = block::kTypeOut});
  guest.descriptor(kDisk, 0, {kRequest, 16, virtio::kDescNext, 1});
  guest.descriptor(kDisk, 1, {kRequest + 0x1000, 4096, virtio::kDescNext, 2});
  guest.descriptor(kDisk, 2, {kRequest + 0x100, 1, virtio::kDescWrite, 0});
  guest.all_available(kDisk, 1);
  guest.descriptor(kVsockEvents, 0, {kEvent, 4, virtio::kDescWrite, 0});
  guest.all_available(kVsockEvents, 1);
  guest.bring_up({kDisk});
  guest.submit(kVsockEvents);
  guest.round();
  agent.serve([&] {
    Assembler& code = guest.cpu();
    code.load(kServed, 8);
    code.store_rax(kRequest + 0x1000, 8);
    code.bytes({0x48, 0x89, 0xc1, 0x83, 0xe0, 0x3f});  // mov rcx, rax; and eax, 63
    code.bytes({0x48, 0xc1, 0xe0, 0x0c, 0x48, 0xbf});  // shl rax, 12; mov rdi, imm64
    code.immediate(kServingPages, 8);
    code.bytes({0x48, 0x01, 0xc7, 0x48, 0x89, 0x0f});  // add rdi, rax; mov [rdi], rcx
    guest.submit(kDisk);
    guest.wait_used(kDisk);
  });
  for (uint32_t cpu = 1; cpu < vcpus; ++cpu) {
    guest.cpu(cpu).forever([&] { guest.round(cpu); });
  }
}

struct Life {
  LivesIn where = LivesIn::kThisProcess;
  std::shared_ptr<Engine> engine;
  UniqueFd memory;
  std::unique_ptr<Instance> instance;
  TemplateData data;
};

Status make_engine(Life* life) {
  EngineConfig config;
  config.scratch_directory = temp_root();
  config.idle_threads = 0;
  config.ready_shells = 0;
  config.ready_helpers = 0;
  if (life->where == LivesIn::kWorker) {
    config.worker_processes = 1;
    config.machines_here = 0;
  }
  RAMET_ASSIGN_OR_RETURN(life->engine, Engine::create(std::move(config)));
  return Status();
}

Status make(Life* life, const GuestBuilder& guest, uint32_t vcpus = 1) {
  RAMET_ASSIGN_OR_RETURN(life->memory, create_memfd("hostile-guest", kHostileMemoryBytes));
  RAMET_ASSIGN_OR_RETURN(auto memory,
                         GuestMemory::create(life->memory.get(), small_regions(kHostileMemoryBytes),
                                             MapMode::kShared));
  Disks disks;
  RAMET_ASSIGN_OR_RETURN(disks.scratch, block::LayerStack::create(nullptr, kScratchBytes));
  RAMET_ASSIGN_OR_RETURN(life->instance,
                         Instance::create(life->engine->instance_host(), std::move(memory), vcpus,
                                          {.disks = std::move(disks), .console = {}}));
  return guest.place(&life->instance->machine());
}

// Until the guest sleeps.
Status run(Life* life) {
  Machine& machine = life->instance->machine();
  RAMET_RETURN_IF_ERROR(life->instance->resume());
  const uint64_t deadline = monotonic_ns() + patience();
  while (monotonic_ns() < deadline) {
    RAMET_ASSIGN_OR_RETURN(const auto rounds,
                           machine.memory().read_object<uint64_t>(GuestAddr{kRounds}));
    if (rounds != 0) {
      return Status();
    }
    if (const auto end = machine.wait_end(monotonic_ns() + kSecond / 1000)) {
      return absl::UnavailableError(end->detail);
    }
  }
  return absl::DeadlineExceededError("the guest did not do its first round");
}

Status freeze(Life* life) {
  life->data = {};
  RAMET_ASSIGN_OR_RETURN(life->data.state, life->instance->save());
  RAMET_ASSIGN_OR_RETURN(life->data.disks.scratch, life->instance->freeze_scratch());
  life->instance.reset();
  RAMET_ASSIGN_OR_RETURN(life->data.memory,
                         MemoryImage::freeze(std::move(life->memory), kHostileMemoryBytes));
  return Status();
}

Status branch_and_exec(Life* life, SandboxMachine* box, const TemplateData& from) {
  RAMET_ASSIGN_OR_RETURN(const auto branch, branch_sandbox(box, from, monotonic_ns() + patience()));
  RAMET_ASSIGN_OR_RETURN(auto child, fork_obedient(life->engine, *branch));
  RAMET_RETURN_IF_ERROR(command(child.get()));
  RAMET_RETURN_IF_ERROR(command(box));
  child->kill();
  return child->life().wait_gone(monotonic_ns() + patience());
}

Status fork_and_exec(Life* life, const std::string& directory) {
  const Isolation isolation =
      life->where == LivesIn::kHelper ? Isolation::kHelper : Isolation::kInProcess;
  RAMET_ASSIGN_OR_RETURN(const auto loaded,
                         load_template({.directory = directory, .scratch_directory = temp_root()}));
  RAMET_ASSIGN_OR_RETURN(auto machine,
                         fork_obedient(life->engine, *loaded, {.isolation = isolation}));
  RAMET_RETURN_IF_ERROR(command(machine.get()));
  if (life->where == LivesIn::kThisProcess) {
    RAMET_RETURN_IF_ERROR(annotate(branch_and_exec(life, machine.get(), *loaded), "branch"));
  }
  RAMET_RETURN_IF_ERROR(
      reset_sandbox(machine.get(), *loaded,
                    {.ready_deadline_ns = monotonic_ns() + patience(), .isolation = isolation}));
  RAMET_RETURN_IF_ERROR(command(machine.get()));
  machine->kill();
  return machine->life().wait_gone(monotonic_ns() + patience());
}

Status live_in(Life* life, const std::string& directory) {
  RAMET_RETURN_IF_ERROR(annotate(make_engine(life), "make an engine"));
  GuestBuilder guest;
  serve(guest, 1);
  RAMET_RETURN_IF_ERROR(annotate(make(life, guest), "make"));
  RAMET_RETURN_IF_ERROR(annotate(run(life), "run"));
  RAMET_RETURN_IF_ERROR(annotate(freeze(life), "freeze"));
  RAMET_RETURN_IF_ERROR(annotate(save_template(life->data, directory), "save"));
  return annotate(fork_and_exec(life, directory), "fork");
}

StatusOr<std::shared_ptr<const TemplateData>> make_template(Life* life, const GuestBuilder& guest,
                                                            uint32_t vcpus = 1) {
  RAMET_RETURN_IF_ERROR(make(life, guest, vcpus));
  RAMET_RETURN_IF_ERROR(run(life));
  RAMET_RETURN_IF_ERROR(freeze(life));
  return std::make_shared<const TemplateData>(std::move(life->data));
}

}  // namespace

uint64_t obedience_ns() { return (in_nested_machine() ? 20 : 4) * kSecond; }

StatusOr<std::shared_ptr<const TemplateData>> make_obedient_template(
    const std::shared_ptr<Engine>& engine, int commands) {
  Life life;
  life.engine = engine;
  GuestBuilder guest;
  behave(guest, commands);
  return make_template(&life, guest);
}

StatusOr<std::shared_ptr<const TemplateData>> make_serving_template(
    const std::shared_ptr<Engine>& engine, uint32_t vcpus) {
  Life life;
  life.engine = engine;
  GuestBuilder guest;
  serve(guest, vcpus);
  return make_template(&life, guest, vcpus);
}

StatusOr<std::shared_ptr<const TemplateData>> make_agent_template(
    const std::shared_ptr<Engine>& engine, const std::function<void(AgentScript&)>& write) {
  Life life;
  life.engine = engine;
  GuestBuilder guest;
  AgentScript agent(&guest);
  guest.descriptor(kVsockEvents, 0, {kEvent, 4, virtio::kDescWrite, 0});
  guest.all_available(kVsockEvents, 1);
  guest.submit(kVsockEvents);
  guest.round();
  agent.reseed_well();
  write(agent);
  agent.stop();
  return make_template(&life, guest);
}

StatusOr<int> served(SandboxMachine* box) {
  ExecSpec spec;
  spec.argv = {"true"};
  spec.timeout_ns = patience();
  RAMET_ASSIGN_OR_RETURN(const ExecOutcome outcome, box->exec(spec));
  return outcome.exit_code;
}

StatusOr<std::unique_ptr<SandboxMachine>> fork_obedient(const std::shared_ptr<Engine>& engine,
                                                        const TemplateData& from, ForkSpec spec) {
  spec.ready_deadline_ns = monotonic_ns() + patience();
  return fork_sandbox(engine, from, spec);
}

Status command(SandboxMachine* box) {
  ExecSpec spec;
  spec.argv = {"true"};
  spec.timeout_ns = patience();
  return box->exec(spec).status();
}

Lived live(const std::string& folder, LivesIn where) {
  const std::string directory = folder + "/t";
  Life life;
  life.where = where;
  Lived lived{.status = live_in(&life, directory), .broken = {}};
  // Nothing of a template that was not saved is left, under any name.
  const bool saved = std::filesystem::exists(directory + "/manifest.json");
  if (!saved && !std::filesystem::is_empty(folder)) {
    lived.broken = "a part of a template is left";
  }
  if (lived.status.ok() && !saved) {
    lived.broken = "there is no template";
  }
  return lived;
}

}  // namespace ramet::testing
