#include "tests/guests/life.h"

#include <filesystem>

#include "devices/block/abi.h"
#include "lib/core/engine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_data.h"
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

uint64_t patience() { return (in_nested_machine() ? 20 : 4) * kSecond; }

// Writes a block to its disk, sleeps until it is a fork, is reseeded, and answers one command after
// another write.
void behave(GuestBuilder& guest) {
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
  // A restored device begins with the event that the transport was reset.
  guest.wait_used(kVsockEvents);
  guest.submit(kVsockEvents);
  agent.reseed_well();
  agent.take_exec();
  store();
  agent.say(wire::Exit{});
  agent.stop();
}

struct Life {
  Isolation isolation = Isolation::kInProcess;
  std::shared_ptr<Engine> engine;
  UniqueFd memory;
  std::unique_ptr<Instance> instance;
  TemplateData data;
};

Status make(Life* life) {
  EngineConfig config;
  config.scratch_directory = temp_root();
  config.idle_threads = 0;
  config.ready_helpers = 0;
  RAMET_ASSIGN_OR_RETURN(life->engine, Engine::create(std::move(config)));
  GuestBuilder guest;
  behave(guest);
  RAMET_ASSIGN_OR_RETURN(life->memory, create_memfd("hostile-guest", kHostileMemoryBytes));
  RAMET_ASSIGN_OR_RETURN(auto memory,
                         GuestMemory::create(life->memory.get(), small_regions(kHostileMemoryBytes),
                                             MapMode::kShared));
  Disks disks;
  RAMET_ASSIGN_OR_RETURN(disks.scratch, block::LayerStack::create(nullptr, kScratchBytes));
  RAMET_ASSIGN_OR_RETURN(life->instance,
                         Instance::create(life->engine->instance_host(), std::move(memory), 1,
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

Status save(Life* life, const std::string& directory) {
  life->data = {};
  RAMET_ASSIGN_OR_RETURN(life->data.state, life->instance->save());
  RAMET_ASSIGN_OR_RETURN(life->data.disks.scratch, life->instance->freeze_scratch());
  life->instance.reset();
  RAMET_ASSIGN_OR_RETURN(life->data.memory,
                         MemoryImage::freeze(std::move(life->memory), kHostileMemoryBytes));
  return save_template(life->data, directory);
}

Status fork_and_exec(Life* life, const std::string& directory) {
  RAMET_ASSIGN_OR_RETURN(const auto loaded,
                         load_template({.directory = directory, .scratch_directory = temp_root()}));
  RAMET_ASSIGN_OR_RETURN(auto machine,
                         fork_sandbox(life->engine, *loaded,
                                      {.ready_deadline_ns = monotonic_ns() + patience(),
                                       .isolation = life->isolation}));
  ExecSpec spec;
  spec.argv = {"true"};
  spec.timeout_ns = patience();
  RAMET_RETURN_IF_ERROR(machine->exec(spec).status());
  machine->kill();
  return machine->life().wait_gone(monotonic_ns() + patience());
}

Status live_in(Life* life, const std::string& directory) {
  RAMET_RETURN_IF_ERROR(annotate(make(life), "make"));
  RAMET_RETURN_IF_ERROR(annotate(run(life), "run"));
  RAMET_RETURN_IF_ERROR(annotate(save(life, directory), "save"));
  return annotate(fork_and_exec(life, directory), "fork");
}

}  // namespace

Lived live(const std::string& folder, Isolation isolation) {
  const std::string directory = folder + "/t";
  Life life;
  life.isolation = isolation;
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
