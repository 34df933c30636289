#include "lib/agent/guest/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "lib/agent/guest/files.h"
#include "lib/agent/guest/log.h"

namespace ramet::guest {
namespace {

std::string_view path_of(const std::vector<std::string>& env) {
  constexpr std::string_view kName = "PATH=";
  for (const std::string& entry : env) {
    if (entry.starts_with(kName)) {
      return std::string_view(entry).substr(kName.size());
    }
  }
  return kDefaultPath;
}

// execve takes char* for historical reasons and changes nothing.
std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& string : strings) {
    result.push_back(const_cast<char*>(string.c_str()));
  }
  result.push_back(nullptr);
  return result;
}

[[noreturn]] void fail(int report_fd, StartStep step) {
  const StartFailure failure{step, errno};
  (void)!::write(report_fd, &failure, sizeof(failure));
  ::_exit(kExitNotExecutable);
}

// Signals as a fresh program expects them: nothing blocked, nothing ignored.
void reset_signals() {
  for (int number = 1; number < NSIG; ++number) {
    ::signal(number, SIG_DFL);  // fails for KILL, STOP and the C library's own: fine
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

bool become(const Credentials& who) {
  return !who.change || (::setgroups(who.groups.size(), who.groups.data()) == 0 &&
                         ::setgid(who.gid) == 0 && ::setuid(who.uid) == 0);
}

struct Program {
  std::vector<std::string> candidates;
  std::vector<char*> argv;
  std::vector<char*> env;
};

// As execvp(3): a missing candidate passes to the next, a forbidden one is remembered.
int try_candidates(const Program& program) {
  int error = ENOENT;
  for (const std::string& candidate : program.candidates) {
    ::execve(candidate.c_str(), program.argv.data(), program.env.data());
    if (errno == EACCES) {
      error = EACCES;
    } else if (errno != ENOENT && errno != ENOTDIR) {
      return errno;
    }
  }
  return error;
}

// A fork whose child is in the group from its first instruction (CLONE_INTO_CGROUP, Linux 5.7).
// Moving a process into a group waits for an RCU grace period instead, some ticks of the kernel's
// clock: a third of what /bin/true took (docs/adr/0003). The wrapper of the C library would
// run its handlers of a fork; the agent has none, and one thread.
pid_t fork_into(int cgroup_fd) {
  clone_args args = {};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<uint64_t>(cgroup_fd);
  return static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
}

bool enter(int cgroup_fd) {
  const int procs = ::openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
  return procs >= 0 && ::write(procs, "0", 1) == 1;
}

[[noreturn]] void run_child(const SpawnPlan& plan, const Program& program) {
  reset_signals();
  if (::setsid() < 0) {
    fail(plan.report_fd, StartStep::kSession);
  }
  if (::dup2(plan.stdin_fd, STDIN_FILENO) < 0 || ::dup2(plan.stdout_fd, STDOUT_FILENO) < 0 ||
      ::dup2(plan.stderr_fd, STDERR_FILENO) < 0) {
    fail(plan.report_fd, StartStep::kStdio);
  }
  (void)write_file("/proc/self/oom_score_adj", "0");  // the agent's own -1000 is not inherited
  if (!become(plan.credentials)) {
    fail(plan.report_fd, StartStep::kUser);
  }
  if (::chdir(plan.request.cwd.empty() ? "/" : plan.request.cwd.c_str()) != 0) {
    fail(plan.report_fd, StartStep::kDirectory);
  }
  const int error = try_candidates(program);
  const std::string& name = plan.request.argv[0];
  const bool searched = name.find('/') == std::string::npos;
  const std::string line =
      "ramet-agent: " +
      (error == ENOENT && searched ? name + ": command not found" : errno_text(name, error)) + "\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(error == ENOENT || error == ENOTDIR ? kExitNotFound : kExitNotExecutable);
}

}  // namespace

std::vector<std::string> command_candidates(const std::string& command,
                                            const std::vector<std::string>& env) {
  if (command.find('/') != std::string::npos) {
    return {command};
  }
  std::vector<std::string> candidates;
  std::string_view path = path_of(env);
  while (!path.empty()) {
    const std::string_view folder = cut(path, ':');
    // POSIX, XBD 8.3: an empty entry means the working directory.
    candidates.push_back((folder.empty() ? std::string(".") : std::string(folder)) + "/" + command);
  }
  return candidates;
}

pid_t spawn(const SpawnPlan& plan) {
  const Program program{command_candidates(plan.request.argv[0], plan.request.env),
                        pointers(plan.request.argv), pointers(plan.request.env)};
  if (plan.cgroup_fd >= 0) {
    const pid_t pid = fork_into(plan.cgroup_fd);
    if (pid == 0) {
      run_child(plan, program);
    }
    if (pid > 0) {
      return pid;
    }
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (plan.cgroup_fd >= 0 && !enter(plan.cgroup_fd)) {
      fail(plan.report_fd, StartStep::kSession);
    }
    run_child(plan, program);
  }
  return pid;
}

const char* step_text(StartStep step) {
  switch (step) {
    case StartStep::kStdio:
      return "connect its standard streams";
    case StartStep::kSession:
      return "make its session and control group";
    case StartStep::kUser:
      return "become the user";
    case StartStep::kDirectory:
      return "enter the working directory";
    case StartStep::kNone:
      break;
  }
  return "start";
}

}  // namespace ramet::guest
