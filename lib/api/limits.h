// Public limits as an instance wants them, and hits back.
//
// Thread rule: pure functions.
// Invariant: Limit and LimitKind name the same things in the same order.
#ifndef RAMET_LIB_API_LIMITS_H_
#define RAMET_LIB_API_LIMITS_H_

#include <optional>

#include <ramet/options.h>
#include <ramet/outcome.h>

#include "lib/instance/limits.h"
#include "vmm/base/status.h"

namespace sandbox {

// InvalidArgument for a time that is negative, or an action that does not go with its limit.
absl::StatusOr<ramet::InstanceLimits> to_internal(const Limits& limits);

ramet::LimitKind to_internal(Limit limit);
LimitHit to_public(const ramet::LimitHit& hit);
std::optional<LimitHit> to_public(const std::optional<ramet::LimitHit>& hit);

}  // namespace sandbox

#endif  // RAMET_LIB_API_LIMITS_H_
