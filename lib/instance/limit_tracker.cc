#include "lib/instance/limit_tracker.h"

#include <algorithm>
#include <limits>

namespace ramet {
namespace {

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

uint64_t later(uint64_t now, uint64_t by) { return now > kNever - by ? kNever : now + by; }

}  // namespace

LimitTracker::LimitTracker(const InstanceLimits& limits, uint32_t vcpus, uint64_t now_ns)
    : limits_(limits),
      vcpus_(std::max(vcpus, 1U)),
      start_ns_(now_ns),
      memory_due_ns_(limits.private_bytes == 0 ? kNever : now_ns) {}

LimitTracker::Verdict LimitTracker::judge(const Sample& sample) {
  Verdict verdict;
  uint64_t next = kNever;
  if (limits_.wall_ns != 0) {
    const uint64_t lived = sample.now_ns - start_ns_;
    if (lived >= limits_.wall_ns) {
      verdict.hit = LimitHit{LimitKind::kWallClock, limits_.wall_ns, lived};
      return verdict;
    }
    next = later(start_ns_, limits_.wall_ns);
  }
  if (wants_cpu()) {
    next = std::min(next, judge_cpu(sample, &verdict));
  }
  if (wants_memory() && !verdict.hit) {
    judge_memory(sample, &verdict);
    next = std::min(next, memory_due_ns_);
  }
  verdict.next_ns = next;
  return verdict;
}

// When the processor time has to be looked at again.
uint64_t LimitTracker::judge_cpu(const Sample& sample, Verdict* verdict) {
  const uint64_t more = sample.cpu_ns - std::min(sample.cpu_ns, cpu_seen_ns_);
  cpu_seen_ns_ = std::max(cpu_seen_ns_, sample.cpu_ns);
  uint64_t wait = kNever;
  if (limits_.cpu_ns != 0) {
    if (sample.cpu_ns > limits_.cpu_ns) {
      verdict->hit = LimitHit{LimitKind::kCpuTime, limits_.cpu_ns, sample.cpu_ns};
      return kNever;
    }
    // No sooner than with every vCPU busy.
    wait = std::max((limits_.cpu_ns - sample.cpu_ns) / vcpus_, kShortestNs);
  }
  if (limits_.rates.cpu.per_second != 0) {
    verdict->cpu_more_ns = more;
    wait = std::min(wait, more == 0 ? kLongestNs : kShortestNs);
  }
  return later(sample.now_ns, wait);
}

void LimitTracker::judge_memory(const Sample& sample, Verdict* verdict) {
  if (!sample.private_bytes) {
    return;
  }
  const uint64_t used = *sample.private_bytes;
  if (used > limits_.private_bytes) {
    verdict->hit = LimitHit{LimitKind::kPrivateMemory, limits_.private_bytes, used};
    return;
  }
  const uint64_t room = limits_.private_bytes - used;
  const uint64_t us = room / (kMaxDirtyPerSecond / 1'000'000 * vcpus_);
  const uint64_t soon = std::clamp(us * 1'000, kShortestNs, kLongestNs);
  const uint64_t affordable = std::min(sample.memory_cost_ns * kCostShare, kSlowestNs);
  memory_due_ns_ = later(sample.now_ns, std::max(soon, affordable));
}

}  // namespace ramet
