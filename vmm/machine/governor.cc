#include "vmm/machine/governor.h"

#include <algorithm>
#include <limits>

namespace ramet {
namespace {

// A lease is this share of a second's exits: what a vCPU that stopped exiting may keep of the
// others' is little, and a clock is read a thousand times a second at the most.
constexpr uint64_t kLeasesPerSecond = 1024;
constexpr uint64_t kMaxLease = 64;

}  // namespace

void Governor::set_limits(const RateLimits& limits) {
  exits_ = RateMeter(limits.exits);
  interrupts_ = RateMeter(limits.interrupts);
  cpu_ = RateMeter(limits.cpu);
  counts_interrupts_ = interrupts_.limits();
  lease_ = std::clamp<uint64_t>(limits.exits.per_second / kLeasesPerSecond, 1, kMaxLease);
  wait_until_ns_ = 0;
}

Governor::Lease Governor::lease_exits(uint64_t now_ns) {
  if (!exits_.limits()) {
    return {.exits = std::numeric_limits<uint64_t>::max()};
  }
  const std::lock_guard lock(mutex_);
  const RateMeter::Answer answer = exits_.take(lease_, now_ns);
  if (answer.granted == 0) {
    const uint64_t allowed = exits_.limit().per_second;
    return {.hit = LimitHit{LimitKind::kExitRate, allowed, allowed + 1}};
  }
  wait_until(answer.wait_until_ns);
  return {.exits = answer.granted};
}

std::optional<LimitHit> Governor::count_interrupt(uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const RateMeter::Answer answer = interrupts_.take(1, now_ns);
  if (answer.granted == 0) {
    return LimitHit{LimitKind::kIrqRate, interrupts_.limit().per_second, answer.used};
  }
  wait_until(answer.wait_until_ns);
  return std::nullopt;
}

Governor::CpuAnswer Governor::count_cpu(uint64_t cpu_ns, uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const RateMeter::Answer answer = cpu_.take(cpu_ns, now_ns);
  if (answer.granted < cpu_ns) {
    return {.hit = LimitHit{LimitKind::kCpuRate, cpu_.limit().per_second, answer.used}};
  }
  wait_until(answer.wait_until_ns);
  return {.wait = answer.wait_until_ns != 0};
}

void Governor::wait_until(uint64_t until_ns) {
  if (until_ns > wait_until_ns_.load(std::memory_order_relaxed)) {
    wait_until_ns_.store(until_ns, std::memory_order_seq_cst);
  }
}

void Governor::waited(uint64_t until_ns) {
  const std::lock_guard lock(mutex_);
  if (wait_until_ns_.load(std::memory_order_relaxed) == until_ns) {
    wait_until_ns_.store(0, std::memory_order_relaxed);
  }
}

}  // namespace ramet
