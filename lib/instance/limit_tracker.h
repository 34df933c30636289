// LimitTracker: what samples of one instance's use say about its limits, and when to take the next:
// the later, the further away every limit is.
//
// Thread rule: one thread; the caller brings time and figures.
// Invariant: however busy an instance is, it passes a limit by at most what all its vCPUs can do in
// kShortestNs before the next sample is due; of memory, where looking at it is dear (kCostShare),
// in as long as that spaces the samples.
#ifndef RAMET_LIB_INSTANCE_LIMIT_TRACKER_H_
#define RAMET_LIB_INSTANCE_LIMIT_TRACKER_H_

#include <cstdint>
#include <optional>

#include "lib/instance/limits.h"

namespace ramet {

class LimitTracker {
 public:
  static constexpr uint64_t kShortestNs = 10'000'000;
  static constexpr uint64_t kLongestNs = 100'000'000;
  // What one vCPU can make private in a second: a copy-on-write fault of 4 KiB takes a microsecond
  // and more.
  static constexpr uint64_t kMaxDirtyPerSecond = uint64_t{4} << 30;
  // Looking at an instance's memory takes at most one part in so many of a processor, or
  // kSlowestNs apart.
  static constexpr uint64_t kCostShare = 20;
  static constexpr uint64_t kSlowestNs = 1'000'000'000;

  LimitTracker(const InstanceLimits& limits, uint32_t vcpus, uint64_t now_ns);

  bool wants_cpu() const { return limits_.cpu_ns != 0 || limits_.rates.cpu.per_second != 0; }
  bool wants_memory() const { return limits_.private_bytes != 0; }
  // True when the next sample should have the memory in it.
  bool memory_is_due(uint64_t now_ns) const { return wants_memory() && now_ns >= memory_due_ns_; }

  struct Sample {
    uint64_t now_ns = 0;
    uint64_t cpu_ns = 0;                         // where wanted
    std::optional<uint64_t> private_bytes = {};  // where due
    uint64_t memory_cost_ns = 0;                 // how long it took to find that out
  };
  struct Verdict {
    std::optional<LimitHit> hit = {};
    uint64_t cpu_more_ns = 0;  // since the sample before, where the rate of that is limited
    uint64_t next_ns = 0;      // when to look again
  };
  Verdict judge(const Sample& sample);

 private:
  uint64_t judge_cpu(const Sample& sample, Verdict* verdict);
  void judge_memory(const Sample& sample, Verdict* verdict);

  const InstanceLimits limits_;
  const uint64_t vcpus_;
  const uint64_t start_ns_;
  uint64_t cpu_seen_ns_ = 0;
  uint64_t memory_due_ns_;
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_LIMIT_TRACKER_H_
