// Policy: which system calls each kind of Ramet's threads may make, as data: one row for each call
// with its conditions and the code that needs it.
//
// Thread rule: pure functions and plain values.
// Invariant: a call that no row allows is refused. Numbers that other components own (KVM's ioctls,
// the kick signal) come in by PolicyFacts, so that each keeps its one home.
#ifndef RAMET_VMM_JAIL_POLICY_H_
#define RAMET_VMM_JAIL_POLICY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ramet::jail {

enum class ThreadKind : uint8_t {
  kVcpu,    // runs a vCPU and, on its exits, the devices
  kWorker,  // does the disks' work
  kReaper,  // tears machines down
  kStdin,   // reads an embedder's descriptor for a command's standard input
  kWatch,   // looks at what machines with limits use
  kEvents,  // hears what helper processes say
  kHelper,  // the first thread of a helper process
};
inline constexpr std::array kThreadKinds = {
    ThreadKind::kVcpu,  ThreadKind::kWorker, ThreadKind::kReaper, ThreadKind::kStdin,
    ThreadKind::kWatch, ThreadKind::kEvents, ThreadKind::kHelper};
std::string_view name_of(ThreadKind kind);

// (argument & mask) == value. The kernel reads an int from the low half of an argument; rows match
// the whole of it, which is stricter: the C library extends every argument to 64 bits.
struct ArgumentRule {
  uint8_t index = 0;  // 0 to 5
  uint64_t mask = 0;
  uint64_t value = 0;
};

enum class Seen : uint8_t {
  kInLife,       // tests/system/sandbox/confine_test.cc sees it; without, the row is to go
  kInAllocator,  // tests/unit/vmm_jail/jail_test.cc does, of threads that allocate much, and end
  kElsewhere,    // tests cannot wait for it; the row says when it comes
};

// A call that is allowed when all its rules hold. Several rows of one call: any of them.
struct PolicyRow {
  std::string_view syscall;  // its Linux name
  std::vector<ArgumentRule> rules;
  std::string_view what;  // the rules in words; empty where there are none
  std::string_view needed_by;
  Seen seen = Seen::kInLife;
};

// An ioctl that is allowed, by its request number alone.
struct IoctlRow {
  std::string_view name;  // "KVM_RUN"
  uint64_t request = 0;
  std::string_view needed_by;
  Seen seen = Seen::kInLife;
};

struct PolicyFacts {
  int pid = 0;          // of this process: signals stay inside it
  int kick_signal = 0;  // what gets a vCPU thread out of KVM_RUN
  std::span<const IoctlRow> vcpu_ioctls = {};
  std::span<const IoctlRow> worker_ioctls = {};
  std::span<const IoctlRow> watch_ioctls = {};
  std::span<const IoctlRow> helper_ioctls = {};
  // In a helper process threads tell the first one of what has happened.
  bool in_helper = false;
};

using Policy = std::vector<PolicyRow>;
// The rows of one kind, ioctls included, in the order in which a filter should look at them.
Policy policy_of(ThreadKind kind, const PolicyFacts& facts);

// What Mode::kRecord lets through uncounted: what a thread calls before somebody listens to it,
// which is waiting with a futex, and what a sanitizer's run-time does whenever it likes.
bool is_uncounted(const PolicyRow& row);

// Distinct system calls of a policy, each ioctl request left out of the count.
size_t distinct_calls(const Policy& policy);

// The index of the first row that allows this call; what a compiled filter must agree with.
std::optional<size_t> match(const Policy& policy, std::string_view syscall,
                            std::span<const uint64_t, 6> arguments);

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_POLICY_H_
