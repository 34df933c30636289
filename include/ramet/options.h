// Options of templates, forks and commands: aggregates with a default for every field, safe as they
// are.
//
// Thread rule: plain values.
#ifndef RAMET_OPTIONS_H_
#define RAMET_OPTIONS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <ramet/export.h>

namespace sandbox {

class Engine;

// Which kernel a template boots: a Linux bzImage or ELF vmlinux with the modules that belong to it.
struct Kernel {
  // Path of the image. Empty: found in `tree`.
  std::string image = {};
  // Directory that holds lib/modules/VERSION (or usr/lib/modules/VERSION), as `dpkg -x` of a kernel
  // package leaves it. Empty: "/".
  std::string tree = {};

  // The newest kernel installed on this host (/boot/vmlinuz-* with its modules).
  static Kernel host_default() { return {}; }
  // The kernel of an unpacked Debian package.
  static Kernel from_tree(std::string directory) {
    return {.image = {}, .tree = std::move(directory)};
  }
};

// What Template::build is at, for a progress bar.
struct BuildProgress {
  std::string_view step;  // "boot"; valid during the call
  uint32_t done = 0;      // steps that are finished
  uint32_t total = 0;     // steps in all
};

struct TemplateOptions {
  Kernel kernel = {};
  // Root file system image (ext4, erofs or squashfs), attached read-only and shared by all forks;
  // the file must stay where it is and as it is for as long as the template is used. Empty: the
  // guest has nothing but the agent.
  std::string rootfs = {};
  // A command run before the freeze, so that what it loads is warm in every fork: argv. Empty:
  // none.
  std::vector<std::string> warmup = {};
  // Further ones, run after it in order.
  std::vector<std::vector<std::string>> more_warmups = {};
  // Guest memory: a multiple of 4 KiB.
  uint64_t memory_bytes = uint64_t{256} << 20;
  uint32_t vcpus = 1;  // 1 to 8
  // Size of the scratch disk that takes what the guest writes to its file system. 0: no disk;
  // writes stay in guest memory.
  uint64_t scratch_bytes = uint64_t{1} << 30;
  // Commands that forks of the finished template run while it is seen which pages they touch, first
  // two and then two for which those pages are ready already: what both of two touched is made
  // ready ahead in every fork. Empty: the warm-up again.
  std::vector<std::vector<std::string>> training = {};
  // Without, no fork is made for it, and pages come as each fork asks for them.
  bool train = true;
  // Limits for the boot and for each warm-up command. While the host is short of memory
  // (EngineOptions::pressure), a build waits for as long as a boot may take before it is refused.
  std::chrono::milliseconds boot_timeout = std::chrono::seconds(60);
  std::chrono::milliseconds warmup_timeout = std::chrono::seconds(300);
  // Appended to the kernel's command line.
  std::string extra_command_line = {};
  // Takes the guest's console, as it comes, on the engine's thread for the embedder's code; not
  // after the guest's teardown (build: not after its return). Should be quick, and must not wait
  // for the library: what a slow one leaves waiting beyond 1 MiB is dropped, and it is told how
  // much.
  std::function<void(std::string_view)> console = {};
  // Called on the calling thread at the start of each step.
  std::function<void(const BuildProgress&)> progress = {};
  // The engine to use. None: one of the template's own.
  std::shared_ptr<Engine> engine = {};
};

struct LoadOptions {
  // The root file system image where it is now. Empty: where it was when the template was saved.
  std::string rootfs = {};
  std::shared_ptr<Engine> engine = {};
};

// Where a sandbox's machine runs.
enum class Isolation : uint8_t {
  // In threads of this process, each behind a filter (Confinement); where the engine has worker
  // processes (EngineOptions::worker_processes), of one of those once this has as many as it shall.
  kInProcess,
  // In a process of its own that holds nothing but its descriptors: no files, no network, no other
  // process, no privilege; a forbidden system call kills it. Costs some memory, and time at each
  // conversation.
  kProcess,
};

// What becomes of a sandbox that reaches a limit.
enum class LimitAction : uint8_t {
  kEnd,       // it ends: State::kGone, Reason::kLimitReached, and the figures in limit_of()
  kThrottle,  // rates: its vCPUs wait, or its disks; Metrics::throttled counts how often
  kRefuse,    // disk: what the guest writes beyond fails in the guest, as on a full disk
};

// So much in one second; after a quiet time a tenth of it may come at once. 0: no limit.
struct RateLimit {
  uint64_t per_second = 0;
  LimitAction action = LimitAction::kThrottle;  // or kEnd: more than that in one second
};

// What one sandbox may use. 0: no limit. The defaults keep a guest that does nothing but exit or
// raise interrupts from taking the host's time; a busy Linux guest stays far below them.
struct Limits {
  // From the call of fork(), paused or not. Ends it.
  std::chrono::milliseconds wall_clock = {};
  // Of processors, by all its vCPUs together. Ends it, at most 10 ms for each vCPU later.
  std::chrono::milliseconds cpu_time = {};
  // The same in one second, in milliseconds: 500 is half a processor, 2000 two whole ones. Looked
  // at each 10 to 100 ms.
  RateLimit cpu_milliseconds = {};
  // Guest memory that is this sandbox's own and no longer its template's. Looked at each 10 ms when
  // near the limit, so that a guest may get past it by what it can write meanwhile. Ends it.
  uint64_t private_memory_bytes = 0;
  // What the scratch disk holds for this sandbox; never more than the disk's size. kEnd or kRefuse.
  uint64_t disk_bytes = 0;
  LimitAction disk_action = LimitAction::kEnd;
  // Bytes that the sandbox reads from and writes to its disks. What comes beyond waits in the
  // device, while its vCPUs go on; one request of up to 7.9 MiB is never cut. A request of less
  // than 4 KiB, a flush, and each range that is discarded or zeroed count as 4 KiB.
  RateLimit disk_rate = {};
  // Standard output and standard error of one command together. The command is killed, the sandbox
  // lives: ExecResult::limit_hit.
  uint64_t output_bytes = 0;
  // Exits of all vCPUs together from the guest to this process.
  RateLimit exits = {.per_second = 200'000};
  // Interrupts that the sandbox's devices send to it.
  RateLimit interrupts = {.per_second = 100'000};
  // Connections between host and guest open at once: one for each command that runs. 0: 1023. What
  // comes beyond is refused: exec() with ResourceExhausted, the guest's own with a reset.
  uint32_t connections = 0;
};

struct ResetOptions {
  // The guest's new host name. Empty: as in ForkOptions.
  std::string hostname = {};
  // As in ForkOptions.
  std::chrono::milliseconds ready_timeout = std::chrono::seconds(30);
};

// Of Sandbox::snapshot().
struct SnapshotOptions {
  // Until the guest's processes are held; then it fails and the sandbox is Poisoned. While the host
  // is short of memory (EngineOptions::pressure), it waits for as long before it is refused.
  std::chrono::milliseconds hold_timeout = std::chrono::seconds(30);
};

// Whether a fork takes a machine that was made ahead of need (EngineOptions::ready_shells).
enum class ShellUse : uint8_t {
  kIfReady,  // where one stands ready; else a machine is made
  kWait,     // also waits for one that is being made; in a worker process as kIfReady
  kNone,
};

struct ForkOptions {
  Limits limits = {};
  // The guest's host name. Empty: "ramet-" and 8 hexadecimal digits, new for each fork.
  std::string hostname = {};
  // Until the fork has acknowledged its fresh randomness; then fork() fails. While the host is
  // short of memory (EngineOptions::pressure), a fork waits for as long before it is refused.
  std::chrono::milliseconds ready_timeout = std::chrono::seconds(30);
  Isolation isolation = Isolation::kInProcess;
  // Of Isolation::kInProcess.
  ShellUse shell = ShellUse::kIfReady;
  // Makes the pages that forks of this template touch first (TemplateOptions::training) ready ahead
  // of the guest. They count as the sandbox's own from the beginning, and are not made ready where
  // they are more than half of Limits::private_memory.
  bool prefetch = true;
  // Takes the guest's console, as it comes, on the engine's thread for the embedder's code; not
  // after the guest's teardown (build: not after its return). Should be quick, and must not wait
  // for the library: what a slow one leaves waiting beyond 1 MiB is dropped, and it is told how
  // much.
  std::function<void(std::string_view)> console = {};
};

// Of fork_many().
struct ManyOptions {
  // Of each. A host name is the beginning of each name: "NAME-1" is the first. The timeout is that
  // of all of them.
  ForkOptions fork = {};
  // Where one fails, those that did not are killed.
  bool all_or_nothing = false;
};

struct ExecOptions {
  // Environment: NAME=value. None: default_environment().
  std::optional<std::vector<std::string>> env = {};
  // Working directory in the guest.
  std::string cwd = "/";
  // User to run as: a name of the guest's /etc/passwd, or "UID" or "UID:GID". Empty: root.
  std::string user = {};
  // What the command reads from its standard input, when `stdin_fd` is -1.
  std::string stdin_data = {};
  // A descriptor of the caller's to read standard input from, as it comes; not closed. -1:
  // `stdin_data`.
  int stdin_fd = -1;
  // Take output as it comes, on the calling thread. None: captured into the result.
  std::function<void(std::string_view)> on_stdout = {};
  std::function<void(std::string_view)> on_stderr = {};
  // Captured output beyond this is dropped and the result says so; for each of the two streams.
  size_t capture_bytes = size_t{8} << 20;
  // Then the command's whole process group is killed. 0: no limit.
  std::chrono::milliseconds timeout = std::chrono::seconds(60);
};

// PATH, HOME, LANG and TERM with plain values. From any thread.
RAMET_EXPORT std::vector<std::string> default_environment();

}  // namespace sandbox

#endif  // RAMET_OPTIONS_H_
