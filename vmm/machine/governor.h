// Governor: what a machine's exits, interrupts and processor time have to say to its vCPUs: that
// they wait, or that the machine ends.
//
// Thread rule: set_limits() before the first run; then lease_exits() on vCPU threads, the rest from
// any thread. No method blocks.
// Invariant: nothing is looked at for a machine without rates but one number that never changes.
#ifndef RAMET_VMM_MACHINE_GOVERNOR_H_
#define RAMET_VMM_MACHINE_GOVERNOR_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

#include "vmm/machine/limit.h"
#include "vmm/machine/rate_meter.h"

namespace ramet {

class Governor {
 public:
  void set_limits(const RateLimits& limits);

  // How many exits a vCPU may have before it asks again, so that an exit costs a number and a
  // comparison, and only the lease a lock and a clock. At least 1; a hit when there is nothing
  // left.
  struct Lease {
    uint64_t exits = 0;
    std::optional<LimitHit> hit = {};
  };
  Lease lease_exits(uint64_t now_ns);
  // One interrupt was sent.
  std::optional<LimitHit> count_interrupt(uint64_t now_ns);
  // All vCPU threads together ran `cpu_ns` more. True: the vCPUs are to be told to wait.
  struct CpuAnswer {
    bool wait = false;
    std::optional<LimitHit> hit = {};
  };
  CpuAnswer count_cpu(uint64_t cpu_ns, uint64_t now_ns);

  bool counts_interrupts() const { return counts_interrupts_; }
  // No vCPU enters the guest before this moment of CLOCK_MONOTONIC; 0: at once.
  uint64_t wait_until_ns() const { return wait_until_ns_.load(std::memory_order_seq_cst); }
  // A vCPU has waited until then.
  void waited(uint64_t until_ns);

 private:
  // With mutex_ held.
  void wait_until(uint64_t until_ns);

  std::mutex mutex_;
  RateMeter exits_;
  RateMeter interrupts_;
  RateMeter cpu_;
  uint64_t lease_ = 0;
  bool counts_interrupts_ = false;
  std::atomic<uint64_t> wait_until_ns_{0};
};

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_GOVERNOR_H_
