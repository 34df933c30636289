// RateMeter: counts what comes against a rate, and says when it is too much: pure integer
// arithmetic, the caller brings the time.
//
// Thread rule: guarded by its user.
// Invariant: where the rate holds back, a second takes the rate, a tenth of it and one taking at
// the most; where it ends, no second is granted more than the rate.
#ifndef RAMET_VMM_MACHINE_RATE_METER_H_
#define RAMET_VMM_MACHINE_RATE_METER_H_

#include <cstdint>

#include "vmm/machine/limit.h"

namespace ramet {

class RateMeter {
 public:
  // Above this a rate is as good as none; it keeps the arithmetic inside 64 bits.
  static constexpr uint64_t kMaxPerSecond = 10'000'000'000;

  struct Answer {
    uint64_t granted = 0;        // of what was asked for
    uint64_t used = 0;           // where a rate ends: what came in this second, with all asked for
    uint64_t wait_until_ns = 0;  // nothing more before; 0: at once
  };

  explicit RateMeter(RateLimit limit = {}) : limit_(limit) {}

  bool limits() const { return limit_.per_second != 0 && limit_.per_second < kMaxPerSecond; }
  const RateLimit& limit() const { return limit_; }

  // Takes `count` at `now_ns`, which never goes back. A rate that holds back grants all of it and
  // says how long to wait for it; one that ends grants what is left of this second.
  Answer take(uint64_t count, uint64_t now_ns);

 private:
  Answer take_and_wait(uint64_t count, uint64_t now_ns);
  Answer take_of_second(uint64_t count, uint64_t now_ns);

  RateLimit limit_;
  uint64_t paid_until_ns_ = 0;    // holding back: when all that was taken is within the rate
  uint64_t second_start_ns_ = 0;  // ending: the second that is counted
  uint64_t used_ = 0;             // in it
};

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_RATE_METER_H_
