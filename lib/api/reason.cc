#include <string>

#include <ramet/reason.h>

#include "lib/api/limits.h"
#include "lib/instance/reasons.h"

namespace sandbox {
namespace {

struct Row {
  Reason reason;
  std::string_view name;
};

constexpr Row kRows[] = {
    {Reason::kNone, "none"},
    {Reason::kKvmMissing, ramet::reason::kKvmMissing},
    {Reason::kKvmDenied, ramet::reason::kKvmDenied},
    {Reason::kKvmUnfit, ramet::reason::kKvmUnfit},
    {Reason::kBadKernel, ramet::reason::kBadKernel},
    {Reason::kBadImage, ramet::reason::kBadImage},
    {Reason::kBadTemplate, ramet::reason::kBadTemplate},
    {Reason::kIncompatible, ramet::reason::kIncompatible},
    {Reason::kGuestDied, ramet::reason::kGuestDied},
    {Reason::kGuestHung, ramet::reason::kGuestHung},
    {Reason::kGuestMisbehaved, ramet::reason::kGuestMisbehaved},
    {Reason::kProcessesAlive, ramet::reason::kProcessesAlive},
    {Reason::kKilled, ramet::reason::kKilled},
    {Reason::kReset, ramet::reason::kReset},
    {Reason::kReseedFailed, ramet::reason::kReseedFailed},
    {Reason::kCallRefused, ramet::reason::kCallRefused},
    {Reason::kConfinementRefused, ramet::reason::kConfinementRefused},
    {Reason::kHelperDied, ramet::reason::kHelperDied},
    {Reason::kLimitReached, ramet::reason::kLimitReached},
    {Reason::kOutOfMemory, ramet::reason::kOutOfMemory},
    {Reason::kHostBusy, ramet::reason::kHostBusy},
};

}  // namespace

Reason reason_of(const absl::Status& status) {
  const std::string name = ramet::reason_of(status);
  for (const Row& row : kRows) {
    if (row.name == name) {
      return row.reason;
    }
  }
  return Reason::kNone;
}

std::optional<LimitHit> limit_of(const absl::Status& status) {
  return to_public(ramet::limit_of(status));
}

std::optional<std::chrono::milliseconds> retry_after(const absl::Status& status) {
  const auto ms = ramet::retry_after_ms_of(status);
  return ms ? std::optional(std::chrono::milliseconds(*ms)) : std::nullopt;
}

std::string_view reason_name(Reason reason) {
  for (const Row& row : kRows) {
    if (row.reason == reason) {
      return row.name;
    }
  }
  return "none";
}

}  // namespace sandbox
