#include "vmm/machine/limit.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

namespace ramet {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint64_t kNsPerSecond = 1'000 * kNsPerMs;

enum class Unit : uint8_t { kTime, kTimePerSecond, kPerSecond, kBytes, kNumber };

struct Row {
  std::string_view name;
  std::string_view words;
  Unit unit;
};

Row row_of(LimitKind kind) {
  switch (kind) {
    case LimitKind::kWallClock:
      return {"wall_clock", "wall clock", Unit::kTime};
    case LimitKind::kCpuTime:
      return {"cpu_time", "processor time", Unit::kTime};
    case LimitKind::kCpuRate:
      return {"cpu_rate", "processor time in one second", Unit::kTimePerSecond};
    case LimitKind::kExitRate:
      return {"exit_rate", "exits in one second", Unit::kPerSecond};
    case LimitKind::kIrqRate:
      return {"interrupt_rate", "interrupts in one second", Unit::kPerSecond};
    case LimitKind::kPrivateMemory:
      return {"private_memory", "private memory", Unit::kBytes};
    case LimitKind::kDiskOverlay:
      return {"disk", "disk", Unit::kBytes};
    case LimitKind::kExecOutput:
      return {"output", "output of one command", Unit::kBytes};
    case LimitKind::kDiskRate:
      return {"disk_rate", "disk transfers in one second", Unit::kBytes};
    case LimitKind::kConnections:
      break;
  }
  return {"connections", "open connections", Unit::kNumber};
}

// Exact where the unit divides it, else one digit after the point, rounded up: what is used must
// not read like what is allowed.
std::string in_units(uint64_t value, uint64_t unit, std::string_view name) {
  const std::string suffix = absl::StrCat(" ", absl::string_view(name.data(), name.size()));
  if (value % unit == 0) {
    return absl::StrCat(value / unit, suffix);
  }
  const uint64_t tenths = (value % unit * 10 + unit - 1) / unit;
  return absl::StrFormat("%d.%d%s", value / unit + tenths / 10, tenths % 10, suffix);
}

std::string in_unit(uint64_t value, Unit unit) {
  switch (unit) {
    case Unit::kTime:
    case Unit::kTimePerSecond:
      return value >= kNsPerSecond ? in_units(value, kNsPerSecond, "s")
                                   : in_units(value, kNsPerMs, "ms");
    case Unit::kBytes:
      if (value >= kMiB) {
        return in_units(value, kMiB, "MiB");
      }
      return value >= kKiB ? in_units(value, kKiB, "KiB") : in_units(value, 1, "bytes");
    case Unit::kPerSecond:
    case Unit::kNumber:
      break;
  }
  return absl::StrCat(value);
}

}  // namespace

std::string_view name_of(LimitKind kind) { return row_of(kind).name; }

std::string describe(const LimitHit& hit) {
  const Row row = row_of(hit.which);
  return absl::StrFormat("%s: %s allowed, %s used",
                         absl::string_view(row.words.data(), row.words.size()),
                         in_unit(hit.allowed, row.unit), in_unit(hit.used, row.unit));
}

MachineEnd limit_end(const LimitHit& hit) { return {EndReason::kLimit, describe(hit), hit}; }

}  // namespace ramet
