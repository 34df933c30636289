#include "lib/api/limits.h"

#include <algorithm>
#include <limits>
#include <string>

#include <absl/strings/str_format.h>

#include "lib/api/deadline.h"

namespace sandbox {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

constexpr bool same(Limit limit, ramet::LimitKind kind) {
  return static_cast<int>(limit) == static_cast<int>(kind);
}
static_assert(same(Limit::kWallClock, ramet::LimitKind::kWallClock));
static_assert(same(Limit::kCpuTime, ramet::LimitKind::kCpuTime));
static_assert(same(Limit::kCpuRate, ramet::LimitKind::kCpuRate));
static_assert(same(Limit::kExitRate, ramet::LimitKind::kExitRate));
static_assert(same(Limit::kInterruptRate, ramet::LimitKind::kIrqRate));
static_assert(same(Limit::kPrivateMemory, ramet::LimitKind::kPrivateMemory));
static_assert(same(Limit::kDisk, ramet::LimitKind::kDiskOverlay));
static_assert(same(Limit::kOutput, ramet::LimitKind::kExecOutput));
static_assert(same(Limit::kConnections, ramet::LimitKind::kConnections));
static_assert(same(Limit::kDiskRate, ramet::LimitKind::kDiskRate));

absl::StatusOr<uint64_t> time_of(const char* name, std::chrono::milliseconds time) {
  if (time.count() < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("limit %s: %d ms is negative", name, time.count()));
  }
  constexpr auto kLongest =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::nanoseconds::max());
  return nanoseconds_of(std::min(time, kLongest));
}

absl::StatusOr<ramet::RateLimit> rate_of(const char* name, const RateLimit& rate, uint64_t unit) {
  if (rate.action == LimitAction::kRefuse) {
    return absl::InvalidArgumentError(
        absl::StrFormat("limit %s: a rate ends or throttles, it cannot refuse", name));
  }
  const bool fits = rate.per_second <= std::numeric_limits<uint64_t>::max() / unit;
  return ramet::RateLimit{
      .per_second = fits ? rate.per_second * unit : std::numeric_limits<uint64_t>::max(),
      .ends = rate.action == LimitAction::kEnd};
}

}  // namespace

absl::StatusOr<ramet::InstanceLimits> to_internal(const Limits& limits) {
  ramet::InstanceLimits out;
  RAMET_ASSIGN_OR_RETURN(out.wall_ns, time_of("wall_clock", limits.wall_clock));
  RAMET_ASSIGN_OR_RETURN(out.cpu_ns, time_of("cpu_time", limits.cpu_time));
  RAMET_ASSIGN_OR_RETURN(out.rates.cpu,
                         rate_of("cpu_milliseconds", limits.cpu_milliseconds, kNsPerMs));
  RAMET_ASSIGN_OR_RETURN(out.rates.exits, rate_of("exits", limits.exits, 1));
  RAMET_ASSIGN_OR_RETURN(out.rates.interrupts, rate_of("interrupts", limits.interrupts, 1));
  RAMET_ASSIGN_OR_RETURN(out.disk_rate, rate_of("disk_rate", limits.disk_rate, 1));
  if (limits.disk_action == LimitAction::kThrottle) {
    return absl::InvalidArgumentError(
        "limit disk_bytes: a disk ends or refuses, it cannot throttle");
  }
  out.private_bytes = limits.private_memory_bytes;
  out.disk_bytes = limits.disk_bytes;
  out.disk_full_ends = limits.disk_action == LimitAction::kEnd;
  out.connections = limits.connections;
  return out;
}

ramet::LimitKind to_internal(Limit limit) { return static_cast<ramet::LimitKind>(limit); }

LimitHit to_public(const ramet::LimitHit& hit) {
  return {.which = static_cast<Limit>(hit.which), .allowed = hit.allowed, .used = hit.used};
}

std::optional<LimitHit> to_public(const std::optional<ramet::LimitHit>& hit) {
  return hit ? std::optional(to_public(*hit)) : std::nullopt;
}

}  // namespace sandbox
