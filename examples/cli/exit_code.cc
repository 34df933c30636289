#include "examples/cli/exit_code.h"

namespace cli {

int exit_code_of_signal(int number) { return (128 + number) & 0xff; }

int exit_code_of(const sandbox::ExecResult& result) {
  if (result.timed_out || result.limit_hit) {
    return kExitTimeout;
  }
  return result.signal != 0 ? exit_code_of_signal(result.signal) : result.exit_code & 0xff;
}

}  // namespace cli
