// The exit codes of `ramet`.
//
// Thread rule: pure functions.
// Invariant: for `ramet run`, 0 to 123 and 126 to 255 are the command's own; 124 and 125 are ours
// (unless the command itself ends with them), as with timeout(1).
#ifndef RAMET_EXAMPLES_CLI_EXIT_CODE_H_
#define RAMET_EXAMPLES_CLI_EXIT_CODE_H_

#include <ramet/outcome.h>

namespace cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;     // any other command than `run` failed
inline constexpr int kExitUsage = 2;       // bad command line, not of `run`
inline constexpr int kExitTimeout = 124;   // `run`: --timeout or a --limit was hit
inline constexpr int kExitRunError = 125;  // `run`: Ramet failed, or a bad command line

// What `ramet run` ends with after a command that ran.
int exit_code_of(const sandbox::ExecResult& result);

// What a program ends with that signal `number` stopped: 128 + number.
int exit_code_of_signal(int number);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_EXIT_CODE_H_
