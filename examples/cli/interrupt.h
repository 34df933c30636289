// Interrupts: what SIGINT, SIGTERM and SIGHUP do. A thread of its own takes them with sigwait, so
// there is no signal handler and the action may do anything that a thread may: remove files, take
// locks, kill a sandbox.
//
// Thread rule: create() in main before any other thread (it blocks the signals for all of them);
// the rest from any thread. Invariant: a second signal, or kGrace after the first, ends the process
// whatever the action does. A CLI is its own process, so it may end itself in the middle of a
// library call: what the kernel holds for it (machines, memory, unlinked disks) goes with it.
#ifndef RAMET_EXAMPLES_CLI_INTERRUPT_H_
#define RAMET_EXAMPLES_CLI_INTERRUPT_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

namespace cli {

enum class AfterSignal : uint8_t {
  kExitNow,    // _exit(128 + signal) when the action returns
  kLetFinish,  // the main thread notices and ends soon
};
using SignalAction = std::function<AfterSignal(int signal)>;

class Interrupts {
 public:
  static constexpr std::chrono::seconds kGrace{5};

  static std::shared_ptr<Interrupts> create();

  // The signal that came; 0: none so far.
  int received() const { return received_.load(); }

  // While it lives, `action` is what a signal does; without one the process just ends. Its
  // destruction waits for an action that runs.
  class Scope {
   public:
    Scope(std::shared_ptr<Interrupts> interrupts, SignalAction action);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    std::shared_ptr<Interrupts> interrupts_;
  };

 private:
  void wait_for_signals();
  void act(int signal);

  std::atomic<int> received_ = 0;
  std::mutex mutex_;  // guards action_, and is held while it runs
  SignalAction action_;
};

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_INTERRUPT_H_
