// PressureGate: where forks wait while the host is short of memory.
//
// Thread rule: every method from any thread.
// Invariant: forks pass in the order in which they came, and while some wait one for each reading
// of the figures, so that those that waited do not all come at once; nobody waits beyond its
// deadline. Where nothing can be read the gate is open.
#ifndef RAMET_LIB_CORE_PRESSURE_GATE_H_
#define RAMET_LIB_CORE_PRESSURE_GATE_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>

#include "lib/core/pressure.h"
#include "vmm/base/clock.h"
#include "vmm/base/status.h"

namespace ramet {

class PressureGate {
 public:
  using Source = std::function<PressureFigures()>;
  // A reading is as good as new for so long, so that a burst of forks reads once.
  static constexpr uint64_t kFreshNs = 20'000'000;
  // A fork without a deadline waits no longer than this.
  static constexpr uint64_t kMaxWaitNs = 60'000'000'000;

  struct Options {
    Source source = {};  // called by one thread at a time; empty: the host's
    PressureLimits limits = {};
    // Gives back what the process can do without; called when somebody begins to wait, with no
    // lock held.
    std::function<void()> relieve = {};
    // Told when forks begin to wait, and why.
    std::function<void(std::string_view)> tell = {};
  };
  explicit PressureGate(Options options);

  // Returns when the fork may go on. ResourceExhausted with reason kHostBusy at `deadline_ns` of
  // CLOCK_MONOTONIC (0: after kMaxWaitNs).
  Status enter(uint64_t deadline_ns);

  // Whether a fork would have to wait now, or others do.
  bool is_short();

  size_t waiting() const;

 private:
  // With mutex_ held; reads anew what is older than `max_age_ns`.
  void refresh(uint64_t max_age_ns);
  bool may_pass(std::list<uint64_t>::iterator ticket);
  Status wait(std::unique_lock<std::mutex>* lock, uint64_t deadline_ns);

  const Options options_;
  HostPressure host_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<uint64_t> tickets_;  // of those that wait, first come first
  uint64_t next_ticket_ = 1;
  std::optional<Shortage> shortage_;
  uint64_t read_at_ns_ = 0;
  uint64_t readings_ = 0;
  uint64_t used_reading_ = 0;  // the last one that let somebody pass who had waited
};

// True for errors that say the host is out of something that it may have again: memory,
// descriptors, threads, machines.
bool is_want(const Status& status);
// Such an error as reason kHostBusy with a time to try again; others as they are.
Status as_busy(const Status& status);

}  // namespace ramet

#endif  // RAMET_LIB_CORE_PRESSURE_GATE_H_
