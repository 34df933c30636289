// spawn: one command as a new process in its own session, with everything that can be prepared
// prepared before the fork.
//
// Thread rule: one thread.
// Invariant: the child runs the command, or says by exit status 127 or 126 and a line on its
// standard error that it cannot, or writes a StartFailure to report_fd; it never returns.
#ifndef RAMET_LIB_AGENT_GUEST_SPAWN_H_
#define RAMET_LIB_AGENT_GUEST_SPAWN_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lib/agent/guest/accounts.h"
#include "lib/agent/wire.h"

namespace ramet::guest {

inline constexpr char kDefaultPath[] =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// As shells do (POSIX, XCU 2.8.2).
inline constexpr int kExitNotFound = 127;
inline constexpr int kExitNotExecutable = 126;

enum class StartStep : int32_t { kNone, kStdio, kSession, kUser, kDirectory };

// What the child reports when it fails before the exec; one write to a pipe, so it is atomic.
struct StartFailure {
  StartStep step = StartStep::kNone;
  int32_t error = 0;
};

struct SpawnPlan {
  const wire::ExecRequest& request;
  const Credentials& credentials;
  int stdin_fd;
  int stdout_fd;
  int stderr_fd;
  int report_fd;
  int cgroup_fd;  // the folder of the group it shall be in; -1: none
};

// The files to try for `command`, in order: itself when it has a '/', else one per entry of PATH.
std::vector<std::string> command_candidates(const std::string& command,
                                            const std::vector<std::string>& env);
// The new process, or -1 with errno.
pid_t spawn(const SpawnPlan& plan);
// "enter the working directory", for messages.
const char* step_text(StartStep step);

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_SPAWN_H_
