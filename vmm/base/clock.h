// The host's clocks, as one function each.
//
// Thread rule: call from anywhere.
#ifndef RAMET_VMM_BASE_CLOCK_H_
#define RAMET_VMM_BASE_CLOCK_H_

#include <cstdint>

namespace ramet {

// CLOCK_MONOTONIC in nanoseconds.
uint64_t monotonic_ns();
// CLOCK_REALTIME in nanoseconds since 1970.
uint64_t realtime_ns();

}  // namespace ramet

#endif  // RAMET_VMM_BASE_CLOCK_H_
