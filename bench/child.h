// in_children: a measurement in processes of its own, so that what one side leaves in an address
// space is not there for the other.
//
// Thread rule: only while the process has one thread.
// Invariant: what the child made is gone when it has returned.
#ifndef RAMET_BENCH_CHILD_H_
#define RAMET_BENCH_CHILD_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "vmm/base/status.h"

namespace ramet::bench {

using Figures = std::vector<double>;

enum class Turns : uint8_t { kAtOnce, kOneAfterTheOther };

// Runs `measure` in so many children, which live until the last one is done: each makes what it
// needs and calls `begin`, which returns when all of them are ready and, where they take turns, the
// one before is done. The figures of each.
using Measure = std::function<StatusOr<Figures>(const std::function<void()>& begin)>;
StatusOr<std::vector<Figures>> in_children(int processes, Turns turns, const Measure& measure);
// The figures of one.
StatusOr<Figures> in_child(const Measure& measure);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_CHILD_H_
