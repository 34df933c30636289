// SandboxMachine: a fork that answers: its life, its engine, and the conversations with its agent.
//
// Thread rule: every method from any thread; exec() from several at once.
// Invariant: no command runs before the reseed was acknowledged, nor in any state but Running. A
// guest that broke the protocol, or does not answer, poisons its sandbox.
#ifndef RAMET_LIB_CORE_SANDBOX_MACHINE_H_
#define RAMET_LIB_CORE_SANDBOX_MACHINE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "lib/agent/client.h"
#include "lib/core/engine.h"
#include "lib/core/sandbox_life.h"
#include "lib/instance/forked_machine.h"
#include "vmm/base/status.h"

namespace ramet {

class SandboxMachine {
 public:
  // `machine` is restored and does not run yet.
  SandboxMachine(std::shared_ptr<Engine> engine, std::unique_ptr<ForkedMachine> machine,
                 std::string hostname, SandboxTimes times);
  ~SandboxMachine() { life_->detach(); }
  SandboxMachine(const SandboxMachine&) = delete;
  SandboxMachine& operator=(const SandboxMachine&) = delete;

  // Sets the vCPUs going for the first time, and does the reseed before anything else may run.
  Status start(const wire::Reseed& reseed, uint64_t deadline_ns);
  StatusOr<ExecOutcome> exec(const ExecSpec& spec);
  void kill();

  SandboxLife& life() { return *life_; }
  const SandboxLife& life() const { return *life_; }
  const std::string& hostname() const { return hostname_; }

 private:
  // What a failed conversation says about the sandbox: it may poison it, and the reason of its end
  // wins over the broken stream that follows from it.
  Status judge(const Status& status);

  const std::shared_ptr<Engine> engine_;
  const std::string hostname_;
  const std::shared_ptr<GuestPorts> ports_;
  const std::shared_ptr<SandboxLife> life_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_SANDBOX_MACHINE_H_
