// Engine: what templates and sandboxes of one process share: the KVM device, worker threads, the
// reaper.
//
// Thread rule: every method from any thread. Templates and sandboxes keep their engine alive.
// Invariant: nothing of the library is global: two engines know nothing of each other.
#ifndef RAMET_ENGINE_H_
#define RAMET_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <ramet/export.h>

namespace sandbox {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

// What becomes of a system call that no thread of the library needs, made by one of its threads: a
// guest that broke out into it would make such calls. Threads of the embedder are never concerned.
enum class Confinement : uint8_t {
  kEnforce,  // it fails, is counted and logged, and the sandbox is poisoned (Reason::kCallRefused)
  kLog,      // it is counted and logged: for a first run on a new host, or with another malloc
  kOff,      // nothing: threads have no filters
};

struct ConfinementReport {
  Confinement in_force = Confinement::kOff;
  // False: refused calls fail, but are neither counted nor logged, and poison nothing. The kernel
  // grants one listener, and a filter that this process was started under has it.
  bool counted = true;
  // Why that is less than was asked for; empty when it is not.
  std::string why = {};
  uint64_t refused_calls = 0;  // since the engine was made; with kLog, those let through
};

// When the host is too short of memory for another fork. Forks then wait for as long as they may
// (ForkOptions::ready_timeout), threads that are kept for later are given up, and sandboxes that
// live go on. 0: not looked at.
struct PressureOptions {
  // Memory that is available (MemAvailable), in percent of all.
  uint32_t min_available_percent = 3;
  // Percent of the last ten seconds in which some task, and all of them, waited for memory (PSI,
  // where the kernel has it).
  uint32_t max_some_percent = 60;
  uint32_t max_full_percent = 20;
};

struct EngineOptions {
  // The KVM device.
  std::string kvm_device = "/dev/kvm";
  // Threads for work that may block (disk reads and writes). 0: the number of cores, at most 2.
  uint32_t workers = 0;
  // Takes the library's log lines, on the one thread of the engine's that runs the embedder's code.
  // A line that finds a thousand waiting is dropped. Nothing is logged without it.
  std::function<void(LogLevel, std::string_view)> log = {};
  // Where the disks of sandboxes keep what is written, as unlinked files. Empty: in memory.
  std::string scratch_directory = "/var/tmp";
  // seccomp filters on every thread that runs, or works for, a guest.
  Confinement confinement = Confinement::kEnforce;
  // An engine on a host that does not grant that fails (Reason::kConfinementRefused), and so does a
  // fork into a process that lacks a step of its enclosure (enclosure()). Without, the engine logs
  // a warning, does with less, and says so in confinement().
  bool require_confinement = false;
  // Threads of each kind (one runs a vCPU) that are kept, filters and all, for the next sandbox
  // when theirs has gone. Each holds a descriptor and its stack.
  uint32_t idle_threads = 32;
  // Machines of each template that are made ahead of need, from its first fork on, on a thread of
  // the engine's: a fork that finds one is several times faster (ForkOptions::shell). Each holds
  // descriptors and threads as a sandbox does, the kernel's memory for it, and of the guest's the
  // pages that its forks touch first (TemplateOptions::training). They are given up while the host
  // is short of memory. With worker processes so many are kept in each that has sandboxes of the
  // template. 0: none.
  uint32_t ready_shells = 2;
  // The most of them, over all templates: an equal share of them in each worker process, the rest
  // in this one.
  uint32_t max_shells = 64;
  // Threads that fork_many() forks on, from its first call on. 0: twice the number of cores, at
  // most 64.
  uint32_t fork_threads = 0;
  // Processes that stand ready for Isolation::kProcess, from the first such fork on.
  uint32_t ready_helpers = 2;
  // Worker processes, for who keeps many hundreds of sandboxes alive: in one process each further
  // fork costs more, for KVM makes every machine wait for all the others of its process. Once
  // `machines_in_process` sandboxes of Isolation::kInProcess live in this process, others go to the
  // worker with the fewest, at the price of some system calls for each fork and conversation. A
  // worker has no files, no network and no privilege, its threads are confined as this process's
  // are, and its machines share its memory; where it dies its sandboxes do (Reason::kHelperDied).
  // A reset forks anew there. With `require_confinement` a worker's whole enclosure is required. A
  // worker has at most 4096 descriptors, some 8 for each sandbox and one for each command that
  // runs. Started by create(), at most 64. 0: none.
  uint32_t worker_processes = 0;
  uint32_t machines_in_process = 128;
  // The program that helper and worker processes run. Empty: the one that the library carries,
  // which is executed from memory; a host with the sysctl vm.memfd_noexec=2 forbids that, and wants
  // the path of the installed ramet-helper of the same build.
  std::string helper_program = {};
  // A control group of version 2, as a path ("/sys/fs/cgroup/my.service/ramet"), below which each
  // of those processes gets one of its own: memory.max, cpu.max, pids.max and io.max then bound
  // what it may use of the host even where a guest has taken it over. It must be delegated to this
  // process and hold no process itself; create() fails where it is no control group. Controllers
  // that it does not give are in enclosure(), and required with `require_confinement`. Empty: none;
  // resource limits (setrlimit(2)) bound its memory and processor time alone.
  std::string helper_cgroup = {};
  PressureOptions pressure = {};
};

// One of the things that stand around a process of Isolation::kProcess.
struct EnclosureStep {
  std::string name;  // "landlock"
  bool granted = false;
  std::string why = {};  // where it is not: the kernel's word
};

class RAMET_EXPORT Engine {
 public:
  // Errors: NotFound, PermissionDenied or Unimplemented for the KVM device (see Reason),
  // ResourceExhausted for threads, FailedPrecondition where required confinement is not granted,
  // InvalidArgument for options that are out of bounds.
  static absl::StatusOr<std::shared_ptr<Engine>> create(EngineOptions options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Waits until every sandbox that was killed or destroyed so far is torn down. DeadlineExceeded
  // otherwise.
  absl::Status drain(std::chrono::nanoseconds timeout);

  ConfinementReport confinement() const;
  // What this host grants to processes of Isolation::kProcess, found by starting one. Unavailable
  // or DeadlineExceeded where none starts within ten seconds.
  absl::StatusOr<std::vector<EnclosureStep>> enclosure();

  class Impl;
  // For the library itself.
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  explicit Engine(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace sandbox

#endif  // RAMET_ENGINE_H_
