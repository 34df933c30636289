// SandboxLife: the life of a forked machine as a state machine.
//
//               pause()                     the guest broke a rule
//   kRunning <----------> kPaused     kRunning ----------------> kPoisoned
//      |       resume()      |                                      |
//      +---------------------+------> kGone <-----------------------+
//        kill(), or the guest's own end
//
// A reset: begin_reset() from any state but kGone makes it kPaused, without a machine;
// continue_reset() gives it another; end_reset() makes it kRunning. Nothing but finish() is legal
// meanwhile. Each machine has a number, its run, and what one that was taken away still has to say
// does not count.
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
#include <optional>
#include <span>

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
  uint64_t snapshot_pause = 0;  // how long the last snapshot stopped the vCPUs
};

// Of the pages that a machine has of its own: those that were made ready ahead of the guest, how
// many of them it has changed, and those that nobody foresaw.
struct PrefetchUse {
  uint64_t ready_pages = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
};

class SandboxLife : public std::enable_shared_from_this<SandboxLife> {
 public:
  // `machine` is restored and does not run yet. `engine` must be valid until detach().
  static std::shared_ptr<SandboxLife> create(Engine* engine, std::unique_ptr<ForkedMachine> machine,
                                             SandboxTimes times);
  // Kills what still lives and forgets the engine.
  void detach();

  // Takes the machine away; its conversations have ended.
  StatusOr<std::shared_ptr<ForkedMachine>> begin_reset();
  // `machine` is restored and does not run yet. Why the sandbox ended, where it was killed
  // meanwhile.
  Status continue_reset(std::unique_ptr<ForkedMachine> machine, SandboxTimes times);
  // `status`: whether it answers; where it does not, it is Poisoned or Gone.
  Status end_reset(const Status& status);

  // The first run of the vCPUs.
  Status start();
  Status pause();
  Status resume();
  // To Gone, from any state; the first reason stays.
  void finish(const Status& reason) { finish(std::nullopt, reason); }
  // To Poisoned, if it is still that run: the vCPUs stop, and nothing but finish() and
  // begin_reset() is legal.
  void poison(uint64_t run, const Status& reason);
  // FailedPrecondition unless Gone, DeadlineExceeded at `deadline_ns`.
  Status wait_gone(uint64_t deadline_ns);

  // The conversations of the run that is on; while Running, else why `what` is not legal.
  struct Run {
    uint64_t number = 0;
    std::shared_ptr<GuestPorts> ports;
  };
  StatusOr<Run> running(const char* what) const;
  // The same in any state.
  Run run() const;
  // Why that run is over; OK while it is not.
  Status end_reason(uint64_t run) const;

  SandboxState state() const;
  Status end_reason() const;
  SandboxTimes times() const;
  InstanceMetrics metrics() const;
  // Nothing once Gone, in a reset, or where the host does not say.
  std::optional<MemoryUse> memory_use();
  // What came of making `ready` ready ahead; FailedPrecondition once Gone or in a reset.
  StatusOr<PrefetchUse> prefetch_use(const MemoryImage& image, std::span<const PageRange> ready);
  // As ForkedMachine::snapshot(), of that run while Running; else why not. Its end, where it ended
  // meanwhile.
  StatusOr<InstanceSnapshot> snapshot(uint64_t run);
  // As ForkedMachine::touched(); FailedPrecondition once Gone or in a reset.
  StatusOr<WorkingSet> touched();
  // Sets the member of the times to now, unless it is set.
  void mark(uint64_t SandboxTimes::*moment);

 private:
  SandboxLife(Engine* engine, std::unique_ptr<ForkedMachine> machine, SandboxTimes times);
  // Has the machine's own end reported.
  void listen(ForkedMachine* machine, uint64_t run);
  void finish(std::optional<uint64_t> run, const Status& reason);
  void note_torn_down_locked();
  Status not_legal_locked(const char* what) const;
  // The machine when it may be paused and resumed.
  StatusOr<std::shared_ptr<ForkedMachine>> controllable(const char* what) const;
  void reap_locked();
  // With control_mutex_ held; null where there is none now.
  std::shared_ptr<ForkedMachine> machine() const;

  // pause(), resume(), snapshots and resets come one at a time; taken before mutex_.
  std::mutex control_mutex_;
  mutable std::mutex mutex_;
  std::condition_variable torn_down_;
  Engine* engine_;
  uint64_t run_ = 0;
  std::shared_ptr<GuestPorts> ports_;
  std::shared_ptr<ForkedMachine> machine_;  // null once Gone, and for a while in a reset
  bool in_reset_ = false;
  bool reaped_ = false;  // the last machine
  SandboxState state_ = SandboxState::kRunning;
  Status end_reason_;
  SandboxTimes times_;
  InstanceMetrics last_metrics_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_SANDBOX_LIFE_H_
