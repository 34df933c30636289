#include "lib/instance/reasons.h"

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

}  // namespace ramet
