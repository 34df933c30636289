// The floor of a fork: the KVM calls that no fork can do without, in the order that costs least, by
// a plain program with none of Ramet's code. What Ramet adds is measured against it
// (bench/fork_bench.cc), alternating in one process.
//
// Thread rule: one thread at a time, but for floor_fork_and_keep(), whose state nothing changes.
// Invariant: a FloorTemplate holds a guest that is paused before its first port write; every fork
// runs to that exit.
#ifndef RAMET_BENCH_FLOOR_H_
#define RAMET_BENCH_FLOOR_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace ramet::bench {

// What one fork cost, in nanoseconds. total_ns is from the first call to the guest's first exit,
// without the teardown.
struct FloorResult {
  uint64_t create_vm_ns = 0;
  uint64_t irqchip_ns = 0;
  uint64_t memory_ns = 0;  // mmap(MAP_PRIVATE) and the memory slot
  uint64_t vcpu_ns = 0;    // with its kvm_run mapping
  uint64_t cpuid_ns = 0;
  uint64_t restore_ns = 0;  // every SET of saved state
  uint64_t run_ns = 0;      // to the guest's first exit
  uint64_t total_ns = 0;
  uint64_t teardown_ns = 0;
  const char* failed = nullptr;  // the call that failed, with error; the figures mean nothing then
  int error = 0;
};

class FloorTemplate;
struct FloorTemplateDeleter {
  void operator()(FloorTemplate* floor) const;
};
using FloorTemplatePtr = std::unique_ptr<FloorTemplate, FloorTemplateDeleter>;

// What the guest does before its port write: writes to so many pages, or so many times to an
// address where there is nothing, as a driver does that notifies its device.
struct FloorGuest {
  uint64_t written_pages = 0;
  uint64_t notifications = 0;
};

// A guest of a few instructions in `memory_bytes` of sealed memory, and its saved state. Null where
// KVM cannot; `failed` and `error` then say which call.
FloorTemplatePtr make_floor_template(uint64_t memory_bytes, FloorResult* why,
                                     const FloorGuest& guest = {});

FloorResult floor_fork_once(const FloorTemplate& floor);

// One fork, which has run to its port write and stays until the process ends.
FloorResult floor_fork_and_keep(const FloorTemplate& floor);

// One fork, run to its port write and rewound so many times: what each rewinding took, which is
// MADV_DONTNEED of all its memory and SET of all its state. Only `failed` and `error` mean
// anything.
FloorResult floor_reset(const FloorTemplate& floor, int resets,
                        const std::function<void(uint64_t ns)>& each);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_FLOOR_H_
