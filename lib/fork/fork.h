// fork_sandbox: a template becomes a running sandbox.
//
// Thread rule: from any thread, any number at once.
// Invariant: what it returns has acknowledged its fresh randomness; where that fails nothing is
// left behind.
#ifndef RAMET_LIB_FORK_FORK_H_
#define RAMET_LIB_FORK_FORK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "lib/core/engine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_data.h"
#include "vmm/base/status.h"

namespace ramet {

enum class Isolation : uint8_t {
  kInProcess,
  kHelper,  // in a process of its own
};

struct ForkSpec {
  std::string hostname = {};       // empty: random_hostname()
  uint64_t ready_deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
  std::function<void(std::string_view)> console = {};
  Isolation isolation = Isolation::kInProcess;
  InstanceLimits limits = {};
};

StatusOr<std::unique_ptr<SandboxMachine>> fork_sandbox(std::shared_ptr<Engine> engine,
                                                       const TemplateData& from,
                                                       const ForkSpec& spec);

// The machine of a fork, restored and with its new generation id, not yet running.
StatusOr<std::unique_ptr<ForkedMachine>> fork_machine(Engine* engine, const TemplateData& from,
                                                      const GenerationId& generation,
                                                      const ForkSpec& spec);

// The steps of it, for tests and benches of machines without an agent: memory mapped copy-on-write,
// machine and devices restored, generation id changed; not yet running. The disks of `options` are
// filled in.
StatusOr<std::unique_ptr<Instance>> restore_instance(Engine* engine, const TemplateData& from,
                                                     const GenerationId& generation,
                                                     InstanceOptions options);

}  // namespace ramet

#endif  // RAMET_LIB_FORK_FORK_H_
