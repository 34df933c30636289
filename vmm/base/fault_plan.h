// FaultPlan makes the n-th system call of a kind fail, or come back short, on request: the tests'
// lever on every error path. Production code never arms one; unarmed it costs one relaxed atomic
// load per call.
//
// Thread rule: arm and disarm from one thread; counting is thread-safe.
// Invariant: at most one plan is armed in the process. This is the one mutable global of the
// library: the calls it counts are made by threads that the test does not own, so a thread-local
// plan could not reach them.
#ifndef RAMET_VMM_BASE_FAULT_PLAN_H_
#define RAMET_VMM_BASE_FAULT_PLAN_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ramet::sys {

// Names the call at its one place; tests choose by this name.
enum class Call : uint8_t {
  kAny,  // in a plan: every call counts
  kOpen,
  kRead,
  kWrite,
  kPread,
  kPwrite,
  kFsync,
  kRename,
  kUnlink,
  kMkdir,
  kStat,
  kFtruncate,
  kFallocate,
  kLseek,
  kFcntl,
  kIoctl,
  kMmap,
  kMadvise,
  kMprotect,
  kMemfdCreate,
  kUserfaultfd,
  kEventfd,
  kTimerfd,
  kEpoll,
  kPoll,
  kThreadCreate,
  kSignal,
  kSpawn,
  kSocket,
  kGetrandom,
  kSeccomp,
  kClock,
};

// In place of an errno: the call moves one byte and succeeds. Only calls that move bytes count
// then.
inline constexpr int kShortTransfer = -1;

class FaultPlan {
 public:
  // The n-th call (counted from 1) that matches `call` fails with `error`; with `sticky` every
  // later one does too. `error` is an errno or kShortTransfer.
  FaultPlan(Call call, uint64_t n, int error, bool sticky = false)
      : call_(call), n_(n), error_(error), sticky_(sticky) {}
  virtual ~FaultPlan() { disarm(); }
  FaultPlan(const FaultPlan&) = delete;
  FaultPlan& operator=(const FaultPlan&) = delete;

  void arm();
  // When it returns no thread asks this plan any more. A plan with an on_call() of its own is
  // disarmed before its destruction. Not from on_call().
  void disarm();

  // Matching calls seen so far, failed ones included.
  uint64_t seen() const { return seen_.load(); }
  bool fired() const { return fired_.load(); }

  // What the shim asks before each call, on any thread: the errno to fail with, or nothing. A test
  // may have another plan than "the n-th".
  virtual std::optional<int> on_call(Call call);

 private:
  const Call call_;
  const uint64_t n_;
  const int error_;
  const bool sticky_;
  std::atomic<uint64_t> seen_{0};
  std::atomic<bool> fired_{false};
};

// The armed plan's answer for this call; nothing when no plan is armed.
std::optional<int> injected_error(Call call);

}  // namespace ramet::sys

#endif  // RAMET_VMM_BASE_FAULT_PLAN_H_
