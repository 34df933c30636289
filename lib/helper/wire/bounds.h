// HelperBounds: what a helper process may use, its guest, its devices' work and itself together.
// The limits that name themselves (InstanceLimits) are watched inside it; these are the kernel's,
// for what no longer keeps to them.
//
// Thread rule: plain values and pure functions.
// Invariant: each lies above what a guest within its limits makes the process use.
#ifndef RAMET_LIB_HELPER_WIRE_BOUNDS_H_
#define RAMET_LIB_HELPER_WIRE_BOUNDS_H_

#include <cstdint>

#include "lib/instance/limits.h"

namespace ramet::helper {

// Of one process: the first, the workers, the one for the console, the vCPUs, and KVM's own for
// each machine (kvm-nx-lpage-recovery counts since Linux 6.13).
inline constexpr uint64_t kHelperThreads = 32;
// Of a worker process: a thousand machines of 8 vCPUs.
inline constexpr uint64_t kWorkerThreads = 16'384;

struct HelperBounds {
  uint64_t data_bytes = 0;         // RLIMIT_DATA: what it may map for itself to write to
  uint64_t cpu_seconds = 0;        // RLIMIT_CPU; 0: none
  uint64_t memory_bytes = 0;       // memory.max: what it may touch, page tables and files included
  uint64_t cpu_ns_per_second = 0;  // cpu.max
  uint64_t io_bytes_per_second = 0;  // io.max; 0: none
};

// `overlay_bytes`: what the guest may write to its scratch disk.
HelperBounds bounds_of(const InstanceLimits& limits, uint64_t guest_bytes, uint32_t vcpus,
                       uint64_t overlay_bytes);

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WIRE_BOUNDS_H_
