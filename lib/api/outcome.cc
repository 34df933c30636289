#include <ramet/outcome.h>

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

}  // namespace sandbox
