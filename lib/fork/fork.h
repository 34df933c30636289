// fork_sandbox: a template becomes a running sandbox; reset_sandbox: a used one becomes it again.
//
// Thread rule: from any thread, any number at once.
// Invariant: what it returns has acknowledged its fresh randomness; where that fails nothing is
// left behind.
#ifndef RAMET_LIB_FORK_FORK_H_
#define RAMET_LIB_FORK_FORK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "lib/core/engine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_data.h"
#include "lib/instance/shell_pool.h"
#include "vmm/base/status.h"

namespace ramet {

enum class Isolation : uint8_t {
  kInProcess,
  kHelper,  // in a process of its own
};

enum class ShellUse : uint8_t {
  kIfReady,  // one that stands ready; where none does, a machine is made
  kWait,     // one that is being made too
  kNone,
};

struct ForkSpec {
  std::string hostname = {};       // empty: random_hostname()
  uint64_t ready_deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
  std::function<void(std::string_view)> console = {};
  Isolation isolation = Isolation::kInProcess;
  InstanceLimits limits = {};
  // The template's of this process; may be null.
  std::shared_ptr<ShellPool> shells = {};
  // The template's; may be null: worker processes forget it with its last machine there.
  std::shared_ptr<helper::LearnedSet> learned = {};
  ShellUse use_shell = ShellUse::kIfReady;
  Prefetch prefetch = Prefetch::kYes;
  // HelperFork::first_port, of a fork in another process; fork_sandbox() and reset_sandbox() fill
  // it in.
  uint32_t first_port = 0;
};

StatusOr<std::unique_ptr<SandboxMachine>> fork_sandbox(std::shared_ptr<Engine> engine,
                                                       const TemplateData& from,
                                                       const ForkSpec& spec);

// The pages that a fork by this specification has of its own from the beginning.
std::span<const PageRange> made_ready(const TemplateData& from, const ForkSpec& spec);

// The sandbox that `box` was forked as becomes a new fork of the same: from any state but Gone.
// When it fails the sandbox is Poisoned or Gone, unless it was not legal.
Status reset_sandbox(SandboxMachine* box, const TemplateData& from, const ForkSpec& spec);

// The machine of a fork, restored and with its new generation id, not yet running but where
// `first_port` says so.
StatusOr<std::unique_ptr<ForkedMachine>> fork_machine(Engine* engine, const TemplateData& from,
                                                      const GenerationId& generation,
                                                      const ForkSpec& spec);

// The steps of it, for tests and benches of machines without an agent: machine and devices
// restored, generation id changed; not yet running. `shell` is a machine of this template; null:
// one is made. The disks of `options` are filled in.
StatusOr<std::unique_ptr<Instance>> restore_instance(Engine* engine, const TemplateData& from,
                                                     const GenerationId& generation,
                                                     InstanceOptions options,
                                                     std::unique_ptr<Machine> shell = nullptr,
                                                     Prefetch prefetch = Prefetch::kYes);

}  // namespace ramet

#endif  // RAMET_LIB_FORK_FORK_H_
