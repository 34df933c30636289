#include "lib/image/tool.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include <absl/strings/str_format.h>

#include "vmm/base/clock.h"
#include "vmm/base/syscall.h"

namespace ramet {
namespace {

using sys::Call;
using sys::OnEintr;

constexpr std::array<const char*, 6> kFolders = {"/usr/sbin", "/sbin",           "/usr/bin",
                                                 "/bin",      "/usr/local/sbin", "/usr/local/bin"};
constexpr char kPath[] = "PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin";
constexpr int kInheritedFd = 3;  // as kInheritedPath says
constexpr size_t kLastWordsBytes = 2000;
constexpr unsigned kReapIntervalUs = 2000;
constexpr uint64_t kNsPerMs = 1'000'000;

StatusOr<std::string> find_tool(const ToolRun& run) {
  for (const char* folder : kFolders) {
    std::string path = std::string(folder) + "/" + run.name;
    if (sys::invoke(Call::kStat, OnEintr::kRetry, [&] {
          return ::access(path.c_str(), X_OK);
        }).ok()) {
      return path;
    }
  }
  return absl::UnimplementedError(
      absl::StrFormat("%s is not installed (install the package %s); looked in %s", run.name,
                      run.package, kPath + sizeof("PATH=") - 1));
}

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

// A copy that stands clear of the numbers that the child's descriptors will get: in a process that
// was started with those closed, any descriptor may have one.
StatusOr<UniqueFd> clear_of_standard(int fd) {
  const sys::Result result = sys::fcntl(fd, F_DUPFD_CLOEXEC, kInheritedFd + 1);
  RAMET_RETURN_IF_ERROR(result.status("duplicate a descriptor"));
  return UniqueFd(static_cast<int>(result.value));
}

StatusOr<Pipe> make_pipe() {
  std::array<int, 2> fds = {-1, -1};
  const sys::Result result =
      sys::invoke(Call::kOpen, OnEintr::kRetry, [&] { return ::pipe2(fds.data(), O_CLOEXEC); });
  if (!result.ok()) {
    return result.status("make a pipe");
  }
  Pipe pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
  RAMET_ASSIGN_OR_RETURN(pipe.write_end, clear_of_standard(fds[1]));
  return pipe;
}

// execve's char* are not written to.
std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (std::string& string : strings) {
    result.push_back(string.data());
  }
  result.push_back(nullptr);
  return result;
}

// posix_spawn's two parameter objects, with default signals and the pipes as output.
class SpawnSetup {
 public:
  SpawnSetup(int out, int err, int inherited) {
    ::posix_spawnattr_init(&attributes_);
    sigset_t set;
    ::sigemptyset(&set);
    ::posix_spawnattr_setsigmask(&attributes_, &set);
    ::sigfillset(&set);
    ::posix_spawnattr_setsigdefault(&attributes_, &set);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions_, out, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions_, err, STDERR_FILENO);
    if (inherited >= 0) {
      ::posix_spawn_file_actions_adddup2(&actions_, inherited, kInheritedFd);
    }
  }
  ~SpawnSetup() {
    ::posix_spawnattr_destroy(&attributes_);
    ::posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
  const posix_spawnattr_t* attributes() const { return &attributes_; }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }

 private:
  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
};

// Owns the child: killed and reaped when it was not waited for.
class Child {
 public:
  static StatusOr<Child> start(const ToolRun& run, int out, int err) {
    RAMET_ASSIGN_OR_RETURN(const std::string path, find_tool(run));
    std::vector<std::string> arguments = run.arguments;
    arguments.insert(arguments.begin(), run.name);
    std::vector<std::string> environment = run.environment;
    environment.emplace_back(kPath);
    UniqueFd inherited;
    if (run.inherited_fd >= 0) {
      RAMET_ASSIGN_OR_RETURN(inherited, clear_of_standard(run.inherited_fd));
    }
    const SpawnSetup setup(out, err, inherited.get());
    pid_t pid = -1;
    const sys::Result result = sys::invoke(Call::kSpawn, OnEintr::kRetry, [&] {
      const int error = ::posix_spawn(&pid, path.c_str(), setup.actions(), setup.attributes(),
                                      pointers(arguments).data(), pointers(environment).data());
      errno = error;  // posix_spawn returns it instead
      return error == 0 ? 0 : -1;
    });
    if (!result.ok()) {
      return result.status("start %s", path);
    }
    return Child(pid);
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&&) = delete;
  ~Child() {
    if (pid_ > 0) {
      // style: allow signals: a child process of our own, not yet reaped
      // style: allow signals: a child of our own, not reaped, so the number is still its
      ::kill(pid_, SIGKILL);
      (void)reap(0);
    }
  }

  // The wait status.
  StatusOr<int> wait_until(uint64_t deadline_ns) {
    while (true) {
      RAMET_ASSIGN_OR_RETURN(const Ended ended, reap(WNOHANG));
      if (ended.is_so) {
        return ended.status;
      }
      if (monotonic_ns() >= deadline_ns) {
        return absl::DeadlineExceededError("it closed its output and did not end in time");
      }
      ::usleep(kReapIntervalUs);
    }
  }

 private:
  struct Ended {
    bool is_so = false;
    int status = 0;
  };
  explicit Child(pid_t pid) : pid_(pid) {}

  // FailedPrecondition when somebody else reaped the child: whether it did its work is then
  // unknown.
  StatusOr<Ended> reap(int flags) {
    int status = 0;
    const sys::Result result =
        sys::invoke(Call::kSpawn, OnEintr::kRetry, [&] { return ::waitpid(pid_, &status, flags); });
    if (result.error == ECHILD) {
      pid_ = -1;
      return absl::FailedPreconditionError(
          "its exit status is lost: this process ignores SIGCHLD or waits for every child");
    }
    RAMET_RETURN_IF_ERROR(result.status("wait for it to end"));
    if (result.value > 0) {
      pid_ = -1;
    }
    return Ended{result.value > 0, status};
  }

  pid_t pid_;
};

// Appends what can be read now; false at the end of the pipe.
StatusOr<bool> drain(int fd, std::string& into) {
  std::array<char, 16 * 1024> buffer;
  const sys::Result result = sys::read(fd, std::as_writable_bytes(std::span(buffer)));
  if (!result.ok()) {
    return result.status("read a program's output");
  }
  into.append(buffer.data(), static_cast<size_t>(result.value));
  return result.value > 0;
}

struct Output {
  std::string out;
  std::string err;
};

Status collect(const ToolRun& run, const Pipe& out, const Pipe& err, uint64_t deadline,
               Output& output) {
  std::array<pollfd, 2> fds = {{{out.read_end.get(), POLLIN, 0}, {err.read_end.get(), POLLIN, 0}}};
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    const uint64_t now = monotonic_ns();
    if (now >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrFormat("%s did not end within %d ms", run.name, run.timeout_ns / kNsPerMs));
    }
    const auto left_ms =
        static_cast<int>(std::min<uint64_t>((deadline - now) / kNsPerMs + 1, 1000));
    const sys::Result ready = sys::invoke(Call::kRead, OnEintr::kRetry,
                                          [&] { return ::poll(fds.data(), fds.size(), left_ms); });
    RAMET_RETURN_IF_ERROR(ready.status("wait for a program's output"));
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].fd >= 0 && fds[i].revents != 0) {
        RAMET_ASSIGN_OR_RETURN(const bool more, drain(fds[i].fd, i == 0 ? output.out : output.err));
        fds[i].fd = more ? fds[i].fd : -1;
      }
    }
    if (output.out.size() > run.max_output_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("%s prints more than %d bytes", run.name, run.max_output_bytes));
    }
    if (output.err.size() > 2 * kLastWordsBytes) {
      output.err.erase(0, output.err.size() - kLastWordsBytes);
    }
  }
  return Status();
}

}  // namespace

StatusOr<std::string> run_tool(const ToolRun& run) {
  const uint64_t deadline = monotonic_ns() + run.timeout_ns;
  RAMET_ASSIGN_OR_RETURN(Pipe out, make_pipe());
  RAMET_ASSIGN_OR_RETURN(Pipe err, make_pipe());
  RAMET_ASSIGN_OR_RETURN(Child child, Child::start(run, out.write_end.get(), err.write_end.get()));
  out.write_end.reset();
  err.write_end.reset();
  Output output;
  RAMET_RETURN_IF_ERROR(collect(run, out, err, deadline, output));
  const auto status = child.wait_until(deadline);
  if (!status.ok()) {
    return annotate(status.status(), run.name);
  }
  if (!WIFEXITED(*status) || WEXITSTATUS(*status) != 0) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s failed with %s %d: %s", run.name, WIFEXITED(*status) ? "exit status" : "signal",
        WIFEXITED(*status) ? WEXITSTATUS(*status) : WTERMSIG(*status), output.err));
  }
  return std::move(output.out);
}

}  // namespace ramet
