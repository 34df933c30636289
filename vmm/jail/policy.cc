// style: table
#include "vmm/jail/policy.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>

#include <csignal>
#include <set>

namespace ramet::jail {
namespace {

// From <asm-generic/mman-common.h>, whose calls have their home in vmm/memory: the policy names
// them, it never makes them.
constexpr uint64_t kProtExec = 0x4;
constexpr uint64_t kMapAnonymous = 0x20;
constexpr uint64_t kMadvDontNeed = 4;
constexpr uint64_t kMadvFree = 8;
constexpr uint64_t kMadvHugePage = 14;
constexpr uint64_t kPidfd = 3;  // P_PIDFD, waitid(2)

ArgumentRule equals(uint8_t index, uint64_t value) { return {index, ~uint64_t{0}, value}; }
ArgumentRule lacks(uint8_t index, uint64_t bits) { return {index, bits, 0}; }
ArgumentRule has(uint8_t index, uint64_t bits) { return {index, bits, bits}; }

// The operation without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
ArgumentRule futex_command(uint64_t command) {
  return {1, static_cast<uint32_t>(FUTEX_CMD_MASK), command};
}

// What the C library and the allocator need in any thread: without these a thread crashes, spins,
// or cannot end.
Policy common_rows(const PolicyFacts& facts) {
  const auto pid = static_cast<uint64_t>(facts.pid);
  return {
      {"futex",
       {futex_command(FUTEX_WAIT)},
       "FUTEX_WAIT",
       "std::mutex that is held, join of a thread"},
      {"futex", {futex_command(FUTEX_WAKE)}, "FUTEX_WAKE", "std::mutex, std::condition_variable"},
      {"futex", {futex_command(FUTEX_WAIT_BITSET)}, "FUTEX_WAIT_BITSET", "std::condition_variable"},
      {"rt_sigprocmask", {}, "", "pthread_kill, the end of a thread"},
      {"mmap",
       {lacks(2, kProtExec), has(3, kMapAnonymous)},
       "anonymous, not executable",
       "malloc: a new arena or a large block",
       Seen::kInAllocator},
      {"mprotect",
       {lacks(2, kProtExec)},
       "not executable",
       "malloc: an arena that grows",
       Seen::kInAllocator},
      {"munmap", {}, "", "free, the stack of a joined thread, ~Mapping"},
      {"madvise",
       {equals(2, kMadvDontNeed)},
       "MADV_DONTNEED",
       "free, the stack of a thread that ends",
       Seen::kInAllocator},
      {"madvise",
       {equals(2, kMadvFree)},
       "MADV_FREE",
       "allocators other than the C library's",
       Seen::kElsewhere},
      {"madvise",
       {equals(2, kMadvHugePage)},
       "MADV_HUGEPAGE",
       "malloc, where glibc.malloc.hugetlb=1 is set",
       Seen::kElsewhere},
      {"brk", {}, "", "malloc in the main arena", Seen::kElsewhere},
      {"exit", {}, "", "the end of a thread", Seen::kInAllocator},
      {"tgkill",
       {equals(0, pid), equals(2, static_cast<uint64_t>(facts.kick_signal))},
       "this process, the kick signal",
       "VcpuThread::kick: a machine that ends wakes its vCPUs"},
      {"tgkill",
       {equals(0, pid), equals(2, SIGABRT)},
       "this process, SIGABRT",
       "a failed assertion of the C library",
       Seen::kElsewhere},
      {"gettid", {}, "", "pthread_kill of the thread itself, a failed assertion", Seen::kElsewhere},
      {"getpid", {}, "", "pthread_kill, a failed assertion", Seen::kElsewhere},
      {"clock_gettime",
       {},
       "",
       "Thread::cpu_ns; hosts whose clock the vDSO cannot read",
       Seen::kElsewhere},
      {"rt_sigreturn", {}, "", "an embedder's handler of SIGSEGV and its like", Seen::kElsewhere},
      {"restart_syscall", {}, "", "futex waits with a time, after SIGSTOP", Seen::kElsewhere},
  };
}

Policy sanitizer_rows() {
#if defined(RAMET_SANITIZED)
  // The sanitizers' own run-time; only such builds have these rows. A report from such a thread has
  // symbols only where the program had some looked up before: files cannot be opened then.
  return {
      {"sched_yield", {}, "", "their spin locks", Seen::kElsewhere},
      {"clock_nanosleep", {}, "", "their spin locks", Seen::kElsewhere},
      {"nanosleep", {}, "", "their spin locks", Seen::kElsewhere},
      {"sigaltstack", {}, "", "the end of a thread", Seen::kElsewhere},
      {"madvise", {}, "", "shadow memory", Seen::kElsewhere},
      {"mremap", {}, "", "shadow memory", Seen::kElsewhere},
      {"prctl", {}, "", "names of mappings", Seen::kElsewhere},
      {"membarrier", {}, "", "shadow memory", Seen::kElsewhere},
      {"pipe", {}, "", "UBSan: is this address readable?", Seen::kElsewhere},
      {"pipe2", {}, "", "UBSan: is this address readable?", Seen::kElsewhere},
      {"write", {}, "", "UBSan's question, and every report", Seen::kElsewhere},
      {"read", {}, "", "UBSan: is this address readable?", Seen::kElsewhere},
      {"close", {}, "", "UBSan: is this address readable?", Seen::kElsewhere},
      {"rt_sigaction", {}, "", "TSan's signal handling", Seen::kElsewhere},
      {"getrandom", {}, "", "tables with random seeds", Seen::kElsewhere},
  };
#else
  return {};
#endif
}

// In the embedder's process.
Policy events_rows() {
  return {
      {"epoll_wait", {}, "", "HelperEvents waits for messages"},
      {"recvmsg", {}, "", "receive_message"},
      {"read", {}, "", "HelperEvents is told to stop", Seen::kElsewhere},
      {"write", {}, "", "SocketStream: waiters learn of the end"},
      {"pidfd_send_signal",
       {equals(1, SIGKILL)},
       "SIGKILL",
       "kill_process: a helper whose end it hears of first",
       Seen::kElsewhere},
      {"shutdown", {}, "", "WorkerProcess: the same of a machine in a worker", Seen::kElsewhere},
      {"close",
       {},
       "",
       "~UniqueFd: a stream's descriptors, where it is the last to hold it",
       Seen::kElsewhere},
  };
}

// In the helper process: it makes the machine, and carries bytes.
Policy helper_rows() {
  constexpr uint64_t kMadvDontFork = 10;
  constexpr uint64_t kMadvDontDump = 16;
  constexpr uint64_t kMadvPopulateWrite = 23;
  return {
      {"epoll_wait", {}, "", "Server waits for requests and streams"},
      {"epoll_ctl", {}, "", "Server: a stream comes or goes"},
      {"recvmsg", {}, "", "receive_message"},
      {"sendmsg", {}, "", "send_message"},
      {"read", {}, "", "Waker: an eventfd"},
      {"write", {}, "", "Waker, of itself: its request changed a stream", Seen::kElsewhere},
      {"close", {}, "", "~UniqueFd"},
      {"mmap", {lacks(2, kProtExec)}, "not executable", "Mapping: guest memory, kvm_run"},
      {"madvise", {equals(2, kMadvDontFork)}, "MADV_DONTFORK", "Mapping::map_file"},
      {"madvise", {equals(2, kMadvDontDump)}, "MADV_DONTDUMP", "Mapping::map_file"},
      {"madvise",
       {equals(2, kMadvPopulateWrite)},
       "MADV_POPULATE_WRITE",
       "Mapping::populate_private: working set, room for a snapshot",
       Seen::kElsewhere},
      {"fcntl",
       {equals(1, F_DUPFD_CLOEXEC)},
       "F_DUPFD_CLOEXEC",
       "CowBackend::freeze: a snapshot's disk layer",
       Seen::kElsewhere},
      {"preadv", {}, "", "read the plan of a machine"},
      {"newfstatat", {}, "", "fstat: the size of a file"},
      {"fstat", {}, "", "the size of a file, by other C libraries", Seen::kElsewhere},
      {"prlimit64", {equals(0, 0)}, "this process", "limit_file_bytes"},
      {"exit_group", {}, "", "the embedder closed its end", Seen::kElsewhere},
  };
}

// Another thread's: wakes the first.
Policy wake_rows(ThreadKind kind) {
  if (kind == ThreadKind::kWatch) {
    return {{"write", {}, "", "Outbox: a machine that reached a limit", Seen::kElsewhere}};
  }
  if (kind == ThreadKind::kWorker) {
    return {{"write", {}, "", "Outbox: a line of the log", Seen::kElsewhere}};
  }
  return {{"write", {}, "", "Waker: an eventfd; Outbox: the console, the machine's end"}};
}

Policy own_rows(ThreadKind kind) {
  constexpr uint64_t kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  switch (kind) {
    case ThreadKind::kVcpu:
      return {{"rt_sigtimedwait", {}, "", "VcpuThread takes its kick signal"}};
    case ThreadKind::kWorker:
      return {
          {"preadv", {}, "", "sys::preadv: disk reads"},
          {"pwritev", {}, "", "sys::pwritev: disk writes"},
          {"fallocate",
           {equals(1, kPunch)},
           "PUNCH_HOLE | KEEP_SIZE",
           "sys::punch_hole: discard and write zeroes"},
          {"fsync",
           {},
           "",
           "sys::fsync: VIRTIO_BLK_T_FLUSH of a disk file of its own",
           Seen::kElsewhere},
      };
    case ThreadKind::kReaper:
      return {{"close", {}, "", "~UniqueFd: KVM's descriptors, disk files"},
              {"poll", {}, "", "HelperProcess: does it end by itself?", Seen::kElsewhere},
              {"waitid", {equals(0, kPidfd)}, "P_PIDFD", "wait_process: the end of a helper"},
              {"pidfd_send_signal", {equals(1, SIGKILL)}, "SIGKILL", "kill_process: a helper"},
              {"preadv", {}, "", "Cgroup: was a helper killed for its memory?", Seen::kElsewhere},
              {"epoll_ctl", {}, "", "HelperEvents forgets a helper", Seen::kElsewhere},
              {"shutdown", {}, "", "WorkerProcess lets a machine go", Seen::kElsewhere},
              {"sendmsg", {}, "", "WorkerProcess forgets a template", Seen::kElsewhere},
              {"write",
               {},
               "",
               "SocketStream and Waker: who waits for a conversation learns of its end",
               Seen::kElsewhere}};
    case ThreadKind::kEvents:
      return events_rows();
    case ThreadKind::kHelper:
      return helper_rows();
    case ThreadKind::kWatch:
      return {{"preadv", {}, "", "Pagemap, on hosts before Linux 6.7", Seen::kElsewhere}};
    case ThreadKind::kStdin:
      break;
  }
  return {{"poll", {}, "", "FdSource waits for input"},
          {"read", {}, "", "FdSource reads it"},
          {"write", {}, "", "SocketStream::wake: an eventfd; a command in a helper has input"}};
}

Policy ioctl_rows(std::span<const IoctlRow> ioctls) {
  Policy rows;
  for (const IoctlRow& row : ioctls) {
    rows.push_back({"ioctl", {equals(1, row.request)}, row.name, row.needed_by, row.seen});
  }
  return rows;
}

void append(const Policy& rows, Policy* to) { to->insert(to->end(), rows.begin(), rows.end()); }

}  // namespace

std::string_view name_of(ThreadKind kind) {
  switch (kind) {
    case ThreadKind::kVcpu:
      return "vcpu";
    case ThreadKind::kWorker:
      return "worker";
    case ThreadKind::kReaper:
      return "reaper";
    case ThreadKind::kEvents:
      return "events";
    case ThreadKind::kHelper:
      return "helper";
    case ThreadKind::kWatch:
      return "limits";
    case ThreadKind::kStdin:
      break;
  }
  return "stdin";
}

Policy policy_of(ThreadKind kind, const PolicyFacts& facts) {
  Policy rows;
  // First: KVM_RUN is the call of every exit.
  if (kind == ThreadKind::kVcpu) {
    rows = ioctl_rows(facts.vcpu_ioctls);
  } else if (kind == ThreadKind::kWorker) {
    rows = ioctl_rows(facts.worker_ioctls);
  } else if (kind == ThreadKind::kHelper) {
    rows = ioctl_rows(facts.helper_ioctls);
    append(ioctl_rows(facts.watch_ioctls), &rows);  // the first look is its own
  } else if (kind == ThreadKind::kWatch) {
    rows = ioctl_rows(facts.watch_ioctls);
  }
  append(own_rows(kind), &rows);
  if (facts.in_helper &&
      (kind == ThreadKind::kVcpu || kind == ThreadKind::kWorker || kind == ThreadKind::kWatch)) {
    append(wake_rows(kind), &rows);
  }
  append(common_rows(facts), &rows);
  append(sanitizer_rows(), &rows);
  return rows;
}

bool is_uncounted(const PolicyRow& row) {
#if defined(RAMET_SANITIZED)
  const std::set<std::string_view> theirs = {
      "mmap",  "munmap",          "mprotect",  "madvise",     "mremap",
      "prctl", "clock_nanosleep", "nanosleep", "sched_yield", "membarrier"};
  return row.syscall == "futex" || theirs.contains(row.syscall);
#else
  return row.syscall == "futex";
#endif
}

size_t distinct_calls(const Policy& policy) {
  std::set<std::string_view> names;
  for (const PolicyRow& row : policy) {
    names.insert(row.syscall);
  }
  return names.size();
}

std::optional<size_t> match(const Policy& policy, std::string_view syscall,
                            std::span<const uint64_t, 6> arguments) {
  for (size_t i = 0; i < policy.size(); ++i) {
    bool allowed = policy[i].syscall == syscall;
    for (const ArgumentRule& rule : policy[i].rules) {
      allowed = allowed && (arguments[rule.index] & rule.mask) == rule.value;
    }
    if (allowed) {
      return i;
    }
  }
  return std::nullopt;
}

}  // namespace ramet::jail
