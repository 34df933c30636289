// SandboxLife: the life of a forked machine as a state machine.
//
//               pause()                     the guest broke a rule
//   kRunning <----------> kPaused     kRunning ----------------> kPoisoned
//      |       resume()      |                                      |
//      +---------------------+------> kGone <-----------------------+
//        kill(), or the guest's own end
//
// Thread rule: every method from any thread, also from the machine's own vCPU threads (its end is
// reported there). Invariant: the machine is torn down on the engine's reaper, once. Listeners and
// reaper jobs hold the life but never the engine, so that the engine is never destroyed on a thread
// that it would have to join. No lock is held while a vCPU is waited for.
#ifndef RAMET_LIB_CORE_SANDBOX_LIFE_H_
#define RAMET_LIB_CORE_SANDBOX_LIFE_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "lib/core/engine.h"
#include "lib/instance/forked_machine.h"
#include "vmm/base/status.h"

namespace ramet {

enum class SandboxState : uint8_t { kRunning, kPaused, kPoisoned, kGone };

// CLOCK_MONOTONIC of each moment; 0 where it has not come.
struct SandboxTimes {
  uint64_t fork_called = 0;
  uint64_t shell_ready = 0;
  uint64_t first_exit = 0;
  uint64_t first_agent_reply = 0;
  uint64_t exec_done = 0;
  uint64_t kill_called = 0;
  uint64_t teardown_done = 0;
};

class SandboxLife : public std::enable_shared_from_this<SandboxLife> {
 public:
  // `machine` is restored and does not run yet. `engine` must be valid until detach().
  static std::shared_ptr<SandboxLife> create(Engine* engine, std::unique_ptr<ForkedMachine> machine,
                                             SandboxTimes times);
  // Kills what still lives and forgets the engine.
  void detach();

  // The first run of the vCPUs.
  Status start();
  Status pause();
  Status resume();
  // To Gone, from any state; the first reason stays.
  void finish(const Status& reason);
  // To Poisoned: the vCPUs stop, and nothing but finish() is legal.
  void poison(const Status& reason);
  // FailedPrecondition unless Gone, DeadlineExceeded at `deadline_ns`.
  Status wait_gone(uint64_t deadline_ns);

  // OK while Running; else why `what` is not legal.
  Status check_running(const char* what) const;
  SandboxState state() const;
  Status end_reason() const;
  SandboxTimes times() const;
  InstanceMetrics metrics() const;
  // Sets the member of the times to now, unless it is set.
  void mark(uint64_t SandboxTimes::*moment);

 private:
  SandboxLife(Engine* engine, std::unique_ptr<ForkedMachine> machine, SandboxTimes times);
  Status not_legal_locked(const char* what) const;
  // The machine when it may be paused and resumed.
  StatusOr<std::shared_ptr<ForkedMachine>> controllable(const char* what) const;
  void reap_locked();

  const std::shared_ptr<GuestPorts> ports_;
  std::mutex control_mutex_;  // pause() and resume() come one at a time; taken before mutex_
  mutable std::mutex mutex_;
  std::condition_variable torn_down_;
  Engine* engine_;
  std::shared_ptr<ForkedMachine> machine_;  // null once Gone
  SandboxState state_ = SandboxState::kRunning;
  Status end_reason_;
  SandboxTimes times_;
  InstanceMetrics last_metrics_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_SANDBOX_LIFE_H_
