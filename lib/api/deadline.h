// Public durations as deadlines on CLOCK_MONOTONIC.
//
// Thread rule: pure functions.
#ifndef RAMET_LIB_API_DEADLINE_H_
#define RAMET_LIB_API_DEADLINE_H_

#include <chrono>
#include <cstdint>
#include <limits>

#include "vmm/base/clock.h"

namespace sandbox {

// Nanoseconds of `duration`; 0 for what is not positive.
inline uint64_t nanoseconds_of(std::chrono::nanoseconds duration) {
  return duration.count() > 0 ? static_cast<uint64_t>(duration.count()) : 0;
}

// `duration` from now; a duration that is not positive is already over, one beyond the clock never
// comes.
inline uint64_t deadline_after(std::chrono::nanoseconds duration) {
  const uint64_t now = ramet::monotonic_ns();
  const uint64_t most = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const uint64_t wait = nanoseconds_of(duration);
  return wait > most - now ? most : now + wait;
}

}  // namespace sandbox

#endif  // RAMET_LIB_API_DEADLINE_H_
