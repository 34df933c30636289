#include "vmm/base/clock.h"

#include <ctime>

namespace ramet {
namespace {

// clock_gettime fails only for an unknown clock or a bad pointer; neither can be here.
uint64_t read_clock(clockid_t clock) {
  timespec now = {};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }
uint64_t realtime_ns() { return read_clock(CLOCK_REALTIME); }

}  // namespace ramet
