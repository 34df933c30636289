#include "lib/instance/reasons.h"

#include <algorithm>
#include <vector>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

namespace ramet {

Status with_reason(Status status, std::string_view name) {
  if (!status.ok() && !status.GetPayload(kReasonUrl)) {
    status.SetPayload(kReasonUrl, absl::Cord(std::string(name)));
  }
  return status;
}

std::string reason_of(const Status& status) {
  const auto payload = status.GetPayload(kReasonUrl);
  return payload ? std::string(*payload) : std::string();
}

Status as_connection_limit(const Status& status, uint64_t most) {
  return absl::IsResourceExhausted(status) ? limit_status({LimitKind::kConnections, most, most + 1})
                                           : status;
}

Status limit_status(const LimitHit& hit) {
  Status status = with_reason(
      absl::ResourceExhaustedError(describe(hit)),
      hit.which == LimitKind::kPrivateMemory ? reason::kOutOfMemory : reason::kLimitReached);
  status.SetPayload(kLimitUrl, absl::Cord(absl::StrCat(std::string(name_of(hit.which)), " ",
                                                       hit.allowed, " ", hit.used)));
  return status;
}

std::optional<LimitHit> limit_of(const Status& status) {
  const auto payload = status.GetPayload(kLimitUrl);
  const std::vector<std::string> parts =
      absl::StrSplit(payload ? std::string(*payload) : std::string(), ' ');
  const auto* const kind = std::ranges::find(kLimitKinds, std::string_view(parts[0]), name_of);
  LimitHit hit;
  if (parts.size() != 3 || kind == kLimitKinds.end() || !absl::SimpleAtoi(parts[1], &hit.allowed) ||
      !absl::SimpleAtoi(parts[2], &hit.used)) {
    return std::nullopt;
  }
  hit.which = *kind;
  return hit;
}

Status busy_status(std::string_view why, uint64_t retry_after_ms) {
  Status status = with_reason(
      absl::ResourceExhaustedError(absl::StrFormat("the host is busy: %s; try again in %d ms",
                                                   std::string(why), retry_after_ms)),
      reason::kHostBusy);
  status.SetPayload(kRetryAfterUrl, absl::Cord(absl::StrCat(retry_after_ms)));
  return status;
}

std::optional<uint64_t> retry_after_ms_of(const Status& status) {
  const auto payload = status.GetPayload(kRetryAfterUrl);
  uint64_t ms = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &ms)) {
    return std::nullopt;
  }
  return ms;
}

}  // namespace ramet
