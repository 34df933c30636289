#include <ramet/outcome.h>

#include "lib/api/limits.h"

namespace sandbox {

std::string_view state_name(State state) {
  switch (state) {
    case State::kRunning:
      return "running";
    case State::kPaused:
      return "paused";
    case State::kPoisoned:
      return "poisoned";
    case State::kGone:
      break;
  }
  return "gone";
}

std::string_view limit_name(Limit limit) {
  const auto index = static_cast<size_t>(limit);
  return index < ramet::kLimitKinds.size() ? ramet::name_of(to_internal(limit)) : "unknown";
}

}  // namespace sandbox
