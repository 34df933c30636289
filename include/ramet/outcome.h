// Outcomes: what a guest did, as opposed to errors, which are what the library could not do.
//
// Thread rule: plain values.
#ifndef RAMET_OUTCOME_H_
#define RAMET_OUTCOME_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <ramet/export.h>

namespace sandbox {

// What can be limited: see Limits in options.h.
enum class Limit : uint8_t {
  kWallClock,
  kCpuTime,
  kCpuRate,
  kExitRate,
  kInterruptRate,
  kPrivateMemory,
  kDisk,
  kOutput,
  kConnections,
  kDiskRate,
};
// "private_memory"; for logs and JSON.
RAMET_EXPORT std::string_view limit_name(Limit limit);

// A limit that was reached, with its figures: nanoseconds for times (kCpuRate: in one second),
// bytes for memory, disk, disk transfers and output, counts for the others (rates: in one second).
struct LimitHit {
  Limit which = Limit::kWallClock;
  uint64_t allowed = 0;
  uint64_t used = 0;  // what it was found at, above `allowed`
};

struct ExecResult {
  // 0 to 255 as the command exited; 127 command not found, 126 not executable, 128 + signal when a
  // signal ended it.
  int exit_code = 0;
  // The signal that ended it; 0: none.
  int signal = 0;
  // The timeout was hit and the command's process group killed.
  bool timed_out = false;
  // Its output reached Limits::output_bytes and its process group was killed; what came up to there
  // was passed on or captured.
  std::optional<LimitHit> limit_hit = {};
  std::string stdout_data = {};
  std::string stderr_data = {};
  bool stdout_truncated = false;
  bool stderr_truncated = false;
  std::chrono::nanoseconds wall_time = {};

  bool ok() const { return exit_code == 0 && signal == 0 && !timed_out && !limit_hit; }
};

enum class State : uint8_t {
  kRunning,
  kPaused,
  kPoisoned,  // the guest broke a rule; nothing but reset() and kill() is legal
  kGone,
};
RAMET_EXPORT std::string_view state_name(State state);

// The five clocks of a fork, each from the call of fork() or reset(); nothing where it has not
// happened (yet).
struct ForkClocks {
  std::optional<std::chrono::nanoseconds> shell_ready = {};  // the machine is made and restored
  std::optional<std::chrono::nanoseconds> first_guest_instruction = {};  // its first exit was seen
  std::optional<std::chrono::nanoseconds> first_agent_reply = {};        // reseeded and answering
  std::optional<std::chrono::nanoseconds> exec_done = {};                // the first command's exit
  std::optional<std::chrono::nanoseconds> teardown_done = {};  // from kill() or destruction instead
};

// What of the host's memory a sandbox holds for its guest, now. Page tables are this process's, by
// the areas in which there is a page; KVM's own are nowhere to be seen. With a kernel before Linux
// 6.7 every page of the guest is looked at: 1 ms for 128 MiB.
struct MemoryMetrics {
  uint64_t resident_bytes = 0;
  uint64_t private_bytes = 0;  // its own: in memory or swapped out; the rest is its template's
  uint64_t shared_bytes = 0;   // of its template, mapped; other sandboxes share them
  uint64_t page_table_bytes = 0;
  uint64_t cow_faults = 0;  // pages that a write of the guest made its own
  // Of its own pages: those that were made ready ahead (ForkOptions::prefetch), how many of them
  // the guest has changed since, and those that nobody foresaw. To know, each of the first is
  // compared with its template's: a microsecond a page.
  uint64_t prefetched_pages = 0;
  uint64_t prefetch_hits = 0;
  uint64_t prefetch_misses = 0;
};

// Since the fork, or the last reset.
struct Metrics {
  ForkClocks clocks = {};
  uint64_t vcpu_exits = 0;
  uint64_t interrupts = 0;                       // that its devices sent
  std::chrono::nanoseconds cpu_time = {};        // of all its vCPUs
  uint64_t throttled = 0;                        // how often a rate made a vCPU or a disk wait
  std::chrono::nanoseconds throttled_time = {};  // for how long, all of them together
  uint64_t vsock_bytes_in = 0;                   // guest to host
  uint64_t vsock_bytes_out = 0;                  // host to guest
  uint64_t disk_bytes_read = 0;
  uint64_t disk_bytes_written = 0;
  uint64_t private_disk_bytes = 0;  // what this sandbox's scratch disk holds for itself
  // Nothing once Gone, in a reset, or where the host does not say (`ramet doctor`).
  std::optional<MemoryMetrics> memory = {};
  // How long the last snapshot() stopped the vCPUs; nothing before the first.
  std::optional<std::chrono::nanoseconds> snapshot_pause = {};
};

}  // namespace sandbox

#endif  // RAMET_OUTCOME_H_
