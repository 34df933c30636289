#include "examples/cli/clocks.h"

#include "examples/cli/units.h"

namespace cli {

std::array<Clock, 5> clock_list(const sandbox::ForkClocks& clocks) {
  return {{
      {"shell ready", "shell_ready_ns", clocks.shell_ready},
      {"first guest instruction", "first_guest_instruction_ns", clocks.first_guest_instruction},
      {"first agent reply", "first_agent_reply_ns", clocks.first_agent_reply},
      {"exec done", "exec_done_ns", clocks.exec_done},
      {"teardown done", "teardown_done_ns", clocks.teardown_done},
  }};
}

std::string format_clock(const std::optional<std::chrono::nanoseconds>& value) {
  return value ? format_duration(*value) : "n/a";
}

}  // namespace cli
