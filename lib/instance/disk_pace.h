// DiskPace: one rate for what an instance reads from and writes to all its disks.
//
// Thread rule: every method from any thread; none blocks.
// Invariant: as RateMeter.
#ifndef RAMET_LIB_INSTANCE_DISK_PACE_H_
#define RAMET_LIB_INSTANCE_DISK_PACE_H_

#include <cstdint>
#include <mutex>
#include <optional>

#include "vmm/machine/limit.h"
#include "vmm/machine/rate_meter.h"

namespace ramet {

class DiskPace {
 public:
  explicit DiskPace(const RateLimit& limit) : meter_(limit) {}

  bool limits() const { return meter_.limits(); }

  struct Answer {
    uint64_t wait_until_ns = 0;  // the next request not before; 0: at once
    std::optional<LimitHit> hit = {};
  };
  Answer take(uint64_t bytes, uint64_t now_ns) {
    const std::lock_guard lock(mutex_);
    const RateMeter::Answer answer = meter_.take(bytes, now_ns);
    if (answer.granted < bytes) {
      return {.hit = LimitHit{LimitKind::kDiskRate, meter_.limit().per_second, answer.used}};
    }
    if (answer.wait_until_ns != 0) {
      ++waits_.count;
      waits_.total_ns += answer.wait_until_ns - now_ns;
    }
    return {.wait_until_ns = answer.wait_until_ns};
  }

  // How often a disk was made to wait so far, and for how long, those that wait now included.
  struct Waits {
    uint64_t count = 0;
    uint64_t total_ns = 0;
  };
  Waits waits() const {
    const std::lock_guard lock(mutex_);
    return waits_;
  }

 private:
  mutable std::mutex mutex_;
  RateMeter meter_;
  Waits waits_;
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_DISK_PACE_H_
