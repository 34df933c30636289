#include "examples/cli/limits.h"

#include <array>
#include <functional>

#include <absl/status/statusor.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>

#include "examples/cli/units.h"

namespace cli {
namespace {

using sandbox::Limit;
using sandbox::LimitAction;
using sandbox::Limits;

enum class Kind : uint8_t { kTime, kSize, kNumber };

struct LimitRow {
  Limit limit;
  std::string_view option;  // in --limit
  std::string_view key;     // in JSON
  std::string_view words;
  Kind kind;
};

constexpr std::array kRows = {
    LimitRow{Limit::kWallClock, "wall", "wall_clock", "wall clock", Kind::kTime},
    LimitRow{Limit::kCpuTime, "cpu", "cpu_time", "processor time", Kind::kTime},
    LimitRow{Limit::kCpuRate, "cpu-rate", "cpu_rate", "processor time in one second", Kind::kTime},
    LimitRow{Limit::kExitRate, "exits", "exit_rate", "exits in one second", Kind::kNumber},
    LimitRow{Limit::kInterruptRate, "interrupts", "interrupt_rate", "interrupts in one second",
             Kind::kNumber},
    LimitRow{Limit::kPrivateMemory, "memory", "private_memory", "private memory", Kind::kSize},
    LimitRow{Limit::kDisk, "disk", "disk", "disk", Kind::kSize},
    LimitRow{Limit::kOutput, "output", "output", "output of one command", Kind::kSize},
    LimitRow{Limit::kConnections, "connections", "connections", "open connections", Kind::kNumber},
    LimitRow{Limit::kDiskRate, "disk-rate", "disk_rate", "disk transfers in one second",
             Kind::kSize},
};

const LimitRow* row_of(Limit limit) {
  for (const LimitRow& row : kRows) {
    if (row.limit == limit) {
      return &row;
    }
  }
  return nullptr;
}

absl::Status wrong(std::string_view text, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrFormat("\"%s\": %s", std::string(text), why));
}

// In the unit of its kind: milliseconds, bytes, or as it is.
absl::StatusOr<uint64_t> value_of(Kind kind, std::string_view text) {
  if (kind == Kind::kSize) {
    return parse_size(text);
  }
  if (kind == Kind::kTime) {
    const auto time = parse_duration(text);
    return time.ok() ? absl::StatusOr<uint64_t>(static_cast<uint64_t>(time->count()))
                     : time.status();
  }
  uint64_t number = 0;
  if (text.empty() || text[0] == '+' || !absl::SimpleAtoi(std::string(text), &number)) {
    return absl::InvalidArgumentError("a whole number is wanted");
  }
  return number;
}

// The action of a rate or a disk; `other` is what it may be besides "end".
absl::StatusOr<LimitAction> action_of(std::string_view text, LimitAction other,
                                      LimitAction by_default) {
  const std::string_view name = other == LimitAction::kRefuse ? "refuse" : "throttle";
  if (text.empty()) {
    return by_default;
  }
  if (text == "end" || text == name) {
    return text == "end" ? LimitAction::kEnd : other;
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("what follows the colon is \"end\" or \"%s\"", std::string(name)));
}

absl::Status set_rate(uint64_t value, std::string_view action, sandbox::RateLimit* rate) {
  const auto parsed = action_of(action, LimitAction::kThrottle, LimitAction::kThrottle);
  if (parsed.ok()) {
    *rate = {.per_second = value, .action = *parsed};
  }
  return parsed.status();
}

absl::Status set_disk(uint64_t value, std::string_view action, Limits* limits) {
  const auto parsed = action_of(action, LimitAction::kRefuse, LimitAction::kEnd);
  if (parsed.ok()) {
    limits->disk_bytes = value;
    limits->disk_action = *parsed;
  }
  return parsed.status();
}

absl::Status set_value(const LimitRow& row, uint64_t value, std::string_view action,
                       Limits* limits) {
  switch (row.limit) {
    case Limit::kCpuRate:
      return set_rate(value, action, &limits->cpu_milliseconds);
    case Limit::kExitRate:
      return set_rate(value, action, &limits->exits);
    case Limit::kInterruptRate:
      return set_rate(value, action, &limits->interrupts);
    case Limit::kDiskRate:
      return set_rate(value, action, &limits->disk_rate);
    case Limit::kDisk:
      return set_disk(value, action, limits);
    default:
      break;
  }
  if (!action.empty()) {
    return absl::InvalidArgumentError("nothing may follow a colon here");
  }
  if (row.limit == Limit::kWallClock) {
    limits->wall_clock = std::chrono::milliseconds(value);
  } else if (row.limit == Limit::kCpuTime) {
    limits->cpu_time = std::chrono::milliseconds(value);
  } else if (row.limit == Limit::kPrivateMemory) {
    limits->private_memory_bytes = value;
  } else if (row.limit == Limit::kOutput) {
    limits->output_bytes = value;
  } else if (value > UINT32_MAX) {
    return absl::InvalidArgumentError(absl::StrFormat("at most %d", UINT32_MAX));
  } else {
    limits->connections = static_cast<uint32_t>(value);
  }
  return absl::OkStatus();
}

std::string figure(Kind kind, uint64_t value) {
  switch (kind) {
    case Kind::kTime:
      return format_duration(std::chrono::nanoseconds(value));
    case Kind::kSize:
      return format_size(value);
    case Kind::kNumber:
      break;
  }
  return absl::StrFormat("%d", value);
}

}  // namespace

absl::Status set_limit(std::string_view text, Limits* limits) {
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const LimitRow* row = nullptr;
  std::string names;
  for (const LimitRow& candidate : kRows) {
    names += (names.empty() ? "" : ", ") + std::string(candidate.option);
    row = candidate.option == name ? &candidate : row;
  }
  if (equals == std::string_view::npos || row == nullptr) {
    return wrong(text, "NAME=VALUE is wanted, with one of " + names);
  }
  std::string_view value = text.substr(equals + 1);
  std::string_view action;
  if (const size_t colon = value.find(':'); colon != std::string_view::npos) {
    action = value.substr(colon + 1);
    value = value.substr(0, colon);
    if (action.empty()) {
      return wrong(text, "nothing follows the colon");
    }
  }
  const auto parsed = value_of(row->kind, value);
  const absl::Status status =
      parsed.ok() ? set_value(*row, *parsed, action, limits) : parsed.status();
  return status.ok() ? status : wrong(text, std::string(status.message()));
}

std::string_view limit_key(Limit limit) {
  const LimitRow* row = row_of(limit);
  return row == nullptr ? "unknown" : row->key;
}

std::string limit_text(const sandbox::LimitHit& hit) {
  const LimitRow* row = row_of(hit.which);
  const Kind kind = row == nullptr ? Kind::kNumber : row->kind;
  return absl::StrFormat("%s: %s allowed, %s used",
                         std::string(row == nullptr ? "a limit" : row->words),
                         figure(kind, hit.allowed), figure(kind, hit.used));
}

}  // namespace cli
