// InstanceLimits: what one instance may use, as plain data that can be sent to another process.
//
// Thread rule: plain values.
// Invariant: 0 is no limit; units as in vmm/machine/limit.h.
#ifndef RAMET_LIB_INSTANCE_LIMITS_H_
#define RAMET_LIB_INSTANCE_LIMITS_H_

#include <cstdint>

#include "vmm/machine/limit.h"

namespace ramet {

struct InstanceLimits {
  uint64_t wall_ns = 0;  // from the making of the instance
  uint64_t cpu_ns = 0;   // of all its vCPU threads
  uint64_t private_bytes = 0;
  uint64_t disk_bytes = 0;     // of the scratch disk's overlay
  bool disk_full_ends = true;  // false: what the guest writes beyond fails
  RateLimit disk_rate = {};    // bytes, of all disks; its waits are in the devices
  uint32_t connections = 0;    // open at once; further ones are refused
  RateLimits rates = {};
  friend bool operator==(const InstanceLimits&, const InstanceLimits&) = default;

  // Whether somebody has to look at it from time to time.
  bool watched() const {
    return wall_ns != 0 || cpu_ns != 0 || private_bytes != 0 || rates.cpu.per_second != 0;
  }
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_LIMITS_H_
