// Populations: many machines that live at once, made in a process that makes nothing else.
//
// Thread rule: one thread, in a child of in_children().
// Invariant: what is made stays until the process ends: taking it down is not measured.
#ifndef RAMET_BENCH_POPULATION_H_
#define RAMET_BENCH_POPULATION_H_

#include <cstdint>
#include <functional>

#include "bench/child.h"
#include "lib/core/engine.h"
#include "vmm/base/status.h"

namespace ramet::bench {

struct Population {
  int machines = 1000;
  int callers = 1;  // threads that make them at the same time
  uint64_t memory_bytes = uint64_t{128} << 20;
  uint32_t ready_shells = 0;
  // Of the engine's, besides the process that asks for the forks; 0: all forks are in that.
  int worker_processes = 0;
};

// Bare VMs, each run to its first exit, or forks, each having answered. How long
// each took in microseconds, in the order of their beginning; then what the process and those that
// it started have used of processors; and at last all of them together. `begin` is called when
// everything else stands ready.
StatusOr<Figures> grow_floor(const Population& what, const std::function<void()>& begin);
constexpr size_t kTotals = 2;
// `done` is called when all live.
StatusOr<Figures> grow_forks(const Population& what, const std::function<void()>& begin,
                             const std::function<Status(Engine*)>& done = {});

}  // namespace ramet::bench

#endif  // RAMET_BENCH_POPULATION_H_
