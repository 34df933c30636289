// Limits: what a machine may use, as plain data, and what is said when it used more.
//
// Thread rule: plain values and pure functions.
// Invariant: 0 is no limit. Times are in nanoseconds, sizes in bytes, rates in events of one second
// (of the processor: nanoseconds of it in one second).
#ifndef RAMET_VMM_MACHINE_LIMIT_H_
#define RAMET_VMM_MACHINE_LIMIT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/machine/machine_end.h"

namespace ramet {

inline constexpr std::array kLimitKinds = {
    LimitKind::kWallClock,   LimitKind::kCpuTime,    LimitKind::kCpuRate,
    LimitKind::kExitRate,    LimitKind::kIrqRate,    LimitKind::kPrivateMemory,
    LimitKind::kDiskOverlay, LimitKind::kExecOutput, LimitKind::kConnections,
    LimitKind::kDiskRate,
};

// "private_memory"; for logs, JSON and payloads.
std::string_view name_of(LimitKind kind);

// "private memory: 64 MiB allowed, 71.3 MiB used".
std::string describe(const LimitHit& hit);

// The end of a machine that hit a limit.
MachineEnd limit_end(const LimitHit& hit);

// A rate, and what becomes of a machine that is above it.
struct RateLimit {
  uint64_t per_second = 0;
  bool ends = false;  // false: its vCPUs wait
  friend bool operator==(const RateLimit&, const RateLimit&) = default;
};

struct RateLimits {
  RateLimit exits = {};       // of all vCPUs together
  RateLimit interrupts = {};  // that devices send
  RateLimit cpu = {};         // of all vCPU threads together
  friend bool operator==(const RateLimits&, const RateLimits&) = default;
};

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_LIMIT_H_
