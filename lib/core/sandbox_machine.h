// SandboxMachine: a fork that answers: its life, its engine, and the conversations with its agent.
//
// Thread rule: every method from any thread; exec() from several at once.
// Invariant: no command runs before the reseed was acknowledged, nor in any state but Running. A
// guest that broke the protocol, or does not answer, poisons its sandbox.
#ifndef RAMET_LIB_CORE_SANDBOX_MACHINE_H_
#define RAMET_LIB_CORE_SANDBOX_MACHINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
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

  // A reset. begin_reset() takes the machine away, from any state but Gone: what runs in it ends
  // with Cancelled. end_reset() starts the machine that it becomes; without one, or where that does
  // not acknowledge its reseed, the sandbox is Poisoned or Gone. Nothing else is legal between them
  // but kill().
  StatusOr<std::shared_ptr<ForkedMachine>> begin_reset();
  Status end_reset(StatusOr<std::unique_ptr<ForkedMachine>> machine, const wire::Reseed& reseed,
                   SandboxTimes times, uint64_t deadline_ns);
  StatusOr<ExecOutcome> exec(const ExecSpec& spec);
  // What it is now, while Running: its guest's processes are held by the agent before its vCPUs
  // stop for a moment, and go on afterwards. FailedPrecondition with reason kProcessesAlive where
  // the agent cannot hold all of them. It is poisoned where the agent does not answer, does not let
  // them go on, or not until `deadline_ns` and kThawWithinNs.
  StatusOr<InstanceSnapshot> snapshot(uint64_t deadline_ns);
  static constexpr uint64_t kThawWithinNs = 10'000'000'000;
  void kill();

  SandboxLife& life() { return *life_; }
  const SandboxLife& life() const { return *life_; }
  std::string hostname() const;
  const std::shared_ptr<Engine>& engine() const { return engine_; }

 private:
  // What the reseed was done with: its connection serves one more request, without the packets that
  // end it and begin another.
  struct Reseeded {
    uint64_t run;
    AgentClient client;
  };
  void keep(uint64_t run, AgentClient client);
  std::optional<Reseeded> take_reseeded();

  // A conversation with the agent.
  StatusOr<AgentClient> talk(const SandboxLife::Run& run);
  StatusOr<InstanceSnapshot> snapshot_held(const SandboxLife::Run& run, uint64_t deadline_ns);
  // After it the guest's processes may be held, and nobody lets them go.
  Status lost_hold(uint64_t run, const Status& status);
  // What a failed conversation says about the sandbox: it may poison it, and the reason of its end
  // wins over the broken stream that follows from it.
  Status judge(uint64_t run, const Status& status);

  const std::shared_ptr<Engine> engine_;
  mutable std::mutex hostname_mutex_;
  std::string hostname_;
  const std::shared_ptr<SandboxLife> life_;
  std::atomic<bool> in_snapshot_{false};
  std::mutex reseeded_mutex_;
  std::optional<Reseeded> reseeded_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_SANDBOX_MACHINE_H_
