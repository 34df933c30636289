#include "vmm/jail/spawn.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <optional>

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet::jail {
namespace {

constexpr size_t kChildStackBytes = 64 * 1024;
// Above every place that the files are moved to.
constexpr int kSafeFd = 64;
constexpr int kTries = 3;
constexpr unsigned kNobody = 65534;  // overflowuid
constexpr int kNamespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;

// The child shares the spawner's memory until it executes the program, its errno and a sanitizer's
// notes on the spawner's thread too, so that it may call nothing but these functions, which only
// make system calls.
#define RAMET_IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

RAMET_IN_CHILD long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  long result = number;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
}

RAMET_IN_CHILD long address(const void* pointer) { return reinterpret_cast<long>(pointer); }

struct ChildPlan {
  int program = -1;
  int null = -1;
  int go = -1;      // read end: a byte comes once the child's user is mapped
  int failed = -1;  // write end: the errno of what failed, or its end when the program runs
  const int* files = nullptr;
  size_t file_count = 0;
  const char* name = nullptr;
  const char* namespaces = nullptr;
  const char* argument = nullptr;
  bool become_root_inside = false;
};

RAMET_IN_CHILD long place_files(const ChildPlan& plan) {
  long safe[kMaxSpawnedFiles];  // NOLINT(modernize-avoid-c-arrays): no call of an operator
  for (size_t i = 0; i < plan.file_count; ++i) {
    safe[i] = raw(SYS_fcntl, plan.files[i], F_DUPFD_CLOEXEC, kSafeFd);
    if (safe[i] < 0) {
      return safe[i];
    }
  }
  const long null = raw(SYS_fcntl, plan.null, F_DUPFD_CLOEXEC, kSafeFd);
  const long program = raw(SYS_fcntl, plan.program, F_DUPFD_CLOEXEC, kSafeFd);
  const long failed = raw(SYS_fcntl, plan.failed, F_DUPFD_CLOEXEC, kSafeFd);
  if (null < 0 || program < 0 || failed < 0) {
    return null < 0 ? null : (program < 0 ? program : failed);
  }
  // All others go with the exec; these last, for they may be what the places hold.
  if (const long marked = raw(SYS_close_range, 0, ~0U, CLOSE_RANGE_CLOEXEC); marked < 0) {
    return marked;
  }
  for (int fd = 0; fd < kFirstSpawnedFile; ++fd) {
    raw(SYS_dup3, null, fd, 0);
  }
  for (size_t i = 0; i < plan.file_count; ++i) {
    raw(SYS_dup3, safe[i], kFirstSpawnedFile + static_cast<int>(i), 0);
  }
  // NOLINTBEGIN(modernize-avoid-c-arrays)
  const char* arguments[] = {plan.name, plan.namespaces, plan.argument, nullptr};
  const char* environment[] = {nullptr};
  // NOLINTEND(modernize-avoid-c-arrays)
  const long error = raw(SYS_execveat, program, address(""), address(arguments),
                         address(environment), AT_EMPTY_PATH);
  raw(SYS_write, failed, address(&error), sizeof error);
  return 0;
}

RAMET_IN_CHILD void child_main(const ChildPlan* child_plan) {
  const ChildPlan& plan = *child_plan;
  raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);  // until the program says so again
  char byte = 0;
  long error = raw(SYS_read, plan.go, address(&byte), 1) == 1 ? 0 : -ECANCELED;
  if (error == 0 && plan.become_root_inside) {
    raw(SYS_setgroups, 0, 0);
    error = raw(SYS_setresgid, 0, 0, 0);
    error = error < 0 ? error : raw(SYS_setresuid, 0, 0, 0);
  }
  if (error == 0) {
    error = place_files(plan);
  }
  if (error < 0) {
    raw(SYS_write, plan.failed, address(&error), sizeof error);
  }
  raw(SYS_exit_group, 127);
}

// clone(2) of a child that runs child_main() on a stack of its own, which ends at `stack_top`, a
// multiple of 16; its process id, or -errno. Not the C library's: a sanitizer takes that for
// fork(), and writes into what parent and child share.
long clone_child(uint64_t flags, std::byte* stack_top, const ChildPlan* plan, int* pidfd) {
  long result = SYS_clone;
  register const ChildPlan* argument __asm__("r12") = plan;
  using Entry = decltype(&child_main);
  register Entry entry __asm__("r13") = child_main;
  register long no_tid __asm__("r10") = 0;
  register long no_tls __asm__("r8") = 0;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r12, %%rdi\n\t"
      "call *%%r13\n\t"
      "hlt\n"
      "1:"
      : "+a"(result)
      : "D"(flags), "S"(stack_top), "d"(pidfd), "r"(no_tid), "r"(no_tls), "r"(argument), "r"(entry)
      : "rcx", "r11", "memory");
  return result;
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

StatusOr<Pipe> make_pipe() {
  std::array<int, 2> ends = {-1, -1};
  const sys::Result made = sys::invoke(sys::Call::kSpawn, sys::OnEintr::kRetry,
                                       [&] { return ::pipe2(ends.data(), O_CLOEXEC); });
  RAMET_RETURN_IF_ERROR(made.status("pipe2"));
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Status write_file(const std::string& path, const std::string& text) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd file, sys::open(path, O_WRONLY));
  return sys::write_all(file.get(), std::as_bytes(std::span(text)), "write " + path);
}

// user_namespaces(7): root inside is nobody outside where the spawner may say so, else itself.
Status map_user(int pid, bool as_nobody) {
  const std::string place = absl::StrFormat("/proc/%d/", pid);
  if (!as_nobody) {
    RAMET_RETURN_IF_ERROR(write_file(place + "setgroups", "deny"));
  }
  RAMET_RETURN_IF_ERROR(
      write_file(place + "gid_map", absl::StrFormat("0 %d 1", as_nobody ? kNobody : ::getegid())));
  return write_file(place + "uid_map",
                    absl::StrFormat("0 %d 1", as_nobody ? kNobody : ::geteuid()));
}

struct Attempt {
  int flags = 0;
  bool as_nobody = false;
};

Enclosure enclosure_of(int flags) {
  Enclosure given;
  const auto note = [&](Step step, int flag) { given.at(step) = (flags & flag) != 0 ? 0 : EPERM; };
  note(Step::kUserNamespace, CLONE_NEWUSER);
  note(Step::kMountNamespace, CLONE_NEWNS);
  note(Step::kPidNamespace, CLONE_NEWPID);
  note(Step::kNetworkNamespace, CLONE_NEWNET);
  note(Step::kIpcNamespace, CLONE_NEWIPC);
  note(Step::kUtsNamespace, CLONE_NEWUTS);
  return given;
}

// Before it runs anything, so that all it ever touches is counted. FailedPrecondition where it may
// not: other namespaces would not help.
Status enter_cgroup(int pid, int procs) {
  const std::string text = absl::StrFormat("%d", pid);
  const Status entered =
      sys::write_all(procs, std::as_bytes(std::span(text)), "write to cgroup.procs");
  return entered.ok()
             ? entered
             : absl::FailedPreconditionError(absl::StrCat(
                   "put a helper process into its control group (one that is not root may do so "
                   "within the tree only that it lives in itself): ",
                   std::string(entered.message())));
}

// What a failed attempt leaves: a child that waits for a byte, ends when the pipe does.
Status finish_child(int pid, const SpawnSpec& spec, const Attempt& attempt, Pipe* go,
                    Pipe* failed) {
  failed->write.reset();
  if (spec.cgroup_procs >= 0) {
    RAMET_RETURN_IF_ERROR(enter_cgroup(pid, spec.cgroup_procs));
  }
  if ((attempt.flags & CLONE_NEWUSER) != 0) {
    RAMET_RETURN_IF_ERROR(map_user(pid, attempt.as_nobody));
  }
  const std::byte byte{1};
  RAMET_RETURN_IF_ERROR(sys::write_all(go->write.get(), {&byte, 1}, "start the helper process"));
  long error = 0;
  const sys::Result got =
      sys::read(failed->read.get(), std::as_writable_bytes(std::span<long, 1>(&error, 1)));
  RAMET_RETURN_IF_ERROR(got.status("wait for the helper process to start"));
  return got.value == 0 ? Status()
                        : errno_status(static_cast<int>(-error), "start the helper process");
}

StatusOr<UniqueFd> try_spawn(const SpawnSpec& spec, const Attempt& attempt, int null) {
  RAMET_ASSIGN_OR_RETURN(Pipe go, make_pipe());
  RAMET_ASSIGN_OR_RETURN(Pipe failed, make_pipe());
  const std::string namespaces = absl::StrFormat("%d", attempt.flags);
  ChildPlan plan = {.program = spec.program,
                    .null = null,
                    .go = go.read.get(),
                    .failed = failed.write.get(),
                    .files = spec.files.data(),
                    .file_count = spec.files.size(),
                    .name = spec.name,
                    .namespaces = namespaces.c_str(),
                    .argument = spec.argument,
                    .become_root_inside = attempt.as_nobody};
  const auto stack = std::make_unique<std::byte[]>(kChildStackBytes);
  int pidfd = -1;
  // CLONE_VM: the embedder's page tables, which may be large, are not copied. No signal at the end.
  const sys::Result cloned = sys::invoke(sys::Call::kSpawn, sys::OnEintr::kRetry, [&] {
    const long id = clone_child(CLONE_VM | CLONE_PIDFD | static_cast<uint64_t>(attempt.flags),
                                stack.get() + kChildStackBytes, &plan, &pidfd);
    errno = id < 0 ? static_cast<int>(-id) : 0;
    return id < 0 ? -1 : id;
  });
  RAMET_RETURN_IF_ERROR(cloned.status("make a helper process"));
  UniqueFd process(pidfd);
  const Status started = finish_child(static_cast<int>(cloned.value), spec, attempt, &go, &failed);
  if (!started.ok()) {
    // The stack and the plan are the child's until it has ended.
    kill_process(process.get());
    wait_process(process.get()).status().IgnoreError();
    return started;
  }
  return process;
}

uint64_t nanoseconds(const timeval& time) {
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(time.tv_usec) * 1'000;
}

}  // namespace

Enclosure namespaces_of(const char* argument) {
  int flags = 0;
  return enclosure_of(absl::SimpleAtoi(argument, &flags) ? flags : 0);
}

StatusOr<SpawnedProcess> spawn(const SpawnSpec& spec) {
  if (spec.files.size() > kMaxSpawnedFiles) {
    return absl::InvalidArgumentError(absl::StrFormat("%d files for a helper process; at most %d",
                                                      spec.files.size(), kMaxSpawnedFiles));
  }
  RAMET_ASSIGN_OR_RETURN(const UniqueFd null, sys::open("/dev/null", O_RDWR));
  const std::array<Attempt, 4> attempts = {Attempt{kNamespaces | CLONE_NEWUSER, true},
                                           Attempt{kNamespaces | CLONE_NEWUSER, false},
                                           Attempt{kNamespaces, false}, Attempt{}};
  Status last;
  for (const Attempt& attempt : attempts) {
    if (attempt.as_nobody && ::geteuid() != 0) {
      continue;
    }
    auto process = try_spawn(spec, attempt, null.get());
    if (process.ok()) {
      return SpawnedProcess{*std::move(process), enclosure_of(attempt.flags)};
    }
    last = process.status();
    // Only what the host does not grant is tried with less.
    if (!absl::IsPermissionDenied(last) && !absl::IsInvalidArgument(last) &&
        !absl::IsResourceExhausted(last)) {
      return last;
    }
  }
  return last;
}

void kill_process(int pidfd) {
  // Again where it fails: whoever waits for its end would wait for ever.
  for (int i = 0; i < kTries; ++i) {
    const sys::Result sent = sys::invoke(sys::Call::kSignal, sys::OnEintr::kRetry, [&] {
      return ::syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, nullptr, 0);
    });
    if (sent.ok() || sent.error == ESRCH) {
      return;
    }
  }
}

StatusOr<ProcessEnd> wait_process(int pidfd) {
  siginfo_t info = {};
  rusage use = {};
  sys::Result waited = {-1, EAGAIN};
  for (int i = 0; i < kTries && !waited.ok(); ++i) {  // or it stays a zombie
    waited = sys::invoke(sys::Call::kSpawn, sys::OnEintr::kRetry, [&] {
      // The C library's own has no room for `use`.
      return ::syscall(SYS_waitid, P_PIDFD, pidfd, &info, WEXITED | __WALL, &use);
    });
  }
  RAMET_RETURN_IF_ERROR(waited.status("wait for a helper process"));
  const uint64_t cpu_ns = nanoseconds(use.ru_utime) + nanoseconds(use.ru_stime);
  if (info.si_code == CLD_EXITED) {
    return ProcessEnd{.exit_code = info.si_status, .cpu_ns = cpu_ns};
  }
  return ProcessEnd{.signal = info.si_status, .cpu_ns = cpu_ns};
}

}  // namespace ramet::jail
