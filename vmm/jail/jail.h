// Jail: makes every thread of an engine, each behind the filter of its kind, and keeps idle ones
// for the next machine: a thread that is bound already costs a new machine nothing.
//
// Thread rule: every method from any thread; destroy when no JailedThread of it lives.
// Invariant: the body of a confined thread runs only once its filter is installed. A thread that
// was refused a call is never used again. The embedder's threads are never bound.
#ifndef RAMET_VMM_JAIL_JAIL_H_
#define RAMET_VMM_JAIL_JAIL_H_

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/thread.h"
#include "vmm/jail/filter.h"
#include "vmm/jail/policy.h"
#include "vmm/jail/supervisor.h"
#include "vmm/jail/tenant.h"
#include "vmm/memory/stack_pool.h"

namespace ramet::jail {

enum class Mode : uint8_t {
  kOff,      // no filters
  kLog,      // a forbidden call goes through, and is counted and told of: for soaking a new host
  kRecord,   // as kEnforce, and every call but futex goes by the supervisor, which counts the rows
  kEnforce,  // a forbidden call fails with EPERM, is counted, and poisons its sandbox
  kKill,     // a forbidden call ends the process; never with less than that
};

struct JailOptions {
  Mode mode = Mode::kEnforce;
  // Where the host grants no filter, creation fails (FailedPrecondition); else threads run without.
  bool required = false;
  PolicyFacts facts = {};  // `pid` is filled in
  // Told of each call that no row allows, on a thread of the supervisor, before the tenant is.
  std::function<void(const RefusedCall&, bool allowed)> on_refused = {};
  // Idle threads kept for each kind.
  size_t max_idle = 32;
  // Threads for vCPUs that are made ahead, from the first one on, so that whoever makes a machine
  // need not wait for one; at most max_idle. Whoever works in the background (Thread::
  // lower_priority()) gets a vCPU's thread from among these, else it would be slow for good.
  size_t spare = 0;
};

struct JailReport {
  Mode mode = Mode::kOff;  // in force
  bool counted = true;     // false: refused calls are not told of, for nobody can listen here
  std::string why;         // where that is less than was asked for
};

class JailedThread;

class Jail {
 public:
  static StatusOr<std::unique_ptr<Jail>> create(JailOptions options);
  ~Jail();
  Jail(const Jail&) = delete;
  Jail& operator=(const Jail&) = delete;

  // Runs `body` in a thread of this kind. The slot that the body gets is where it says whom it
  // works for. ResourceExhausted or Unavailable where the host grants no thread.
  using Body = std::function<void(TenantSlot&)>;
  StatusOr<std::unique_ptr<JailedThread>> run(ThreadKind kind, Body body);
  // The same without a filter: for the embedder's own code, and for what no filter allows. It must
  // never touch what a guest wrote but as bytes to pass on.
  StatusOr<std::unique_ptr<JailedThread>> run_unconfined(const std::string& name, Body body);

  // With kKill: puts the calling thread behind the filter of `kind`, for good.
  Status bind_this_thread(ThreadKind kind) const;

  JailReport report() const;
  // Calls refused (in kLog: let through) since creation.
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  const Policy& policy(ThreadKind kind) const { return policies_[static_cast<size_t>(kind)]; }
  // In kRecord: how often each row of the policy allowed a call.
  std::vector<uint64_t> row_uses(ThreadKind kind) const;
  // Threads that wait for a body.
  size_t idle() const;
  // Ends those, for what they hold, and makes no spare ones until the next machine's; says how many
  // they were.
  size_t give_up_idle();

 private:
  friend class JailedThread;
  class Cell;
  using Cells = std::vector<std::unique_ptr<Cell>>;
  static constexpr size_t kKinds = kThreadKinds.size();

  explicit Jail(JailOptions options);
  Status prepare();
  Status prepare_to_kill();
  StatusOr<std::unique_ptr<Cell>> make_cell(ThreadKind kind, const JailReport& how);
  Status weaken(const JailReport& tried, Status why);
  Verdict judge(ThreadKind kind, const HeldCall& held, TenantSlot* slot);
  std::unique_ptr<Cell> take_idle(ThreadKind kind);
  // Keeps it for the next, or ends it.
  void give_back(std::unique_ptr<Cell> cell);
  void start_maker();
  // Has spare threads made where too few are idle.
  void want_spare();
  // Whether threads that the calling one makes would have less priority than those that are made
  // ahead.
  bool is_in_background() const;
  // One that is made ahead, waited for; null where none are.
  StatusOr<std::unique_ptr<Cell>> take_spare();
  // The thread that makes them.
  void make_spare();

  const JailOptions options_;
  const int niceness_ = Thread::niceness();  // of who made this, and so of threads made ahead
  std::array<Policy, kKinds> policies_;
  std::vector<Filter> filters_;         // by kind; empty with kOff
  std::vector<Filter> silent_filters_;  // the same with Refusal::kErrno
  std::atomic<uint64_t> refused_{0};
  std::atomic<bool> allocator_is_warm_{false};
  StackPool stacks_{kThreadStackBytes};

  // Apart: the supervisor takes it while a thread is held, which may hold mutex_.
  mutable std::mutex uses_mutex_;
  std::array<std::vector<uint64_t>, kKinds> row_uses_;

  mutable std::mutex mutex_;
  JailReport report_;
  std::array<Cells, kKinds> idle_;
  std::unique_ptr<Supervisor> supervisor_;
  bool closing_ = false;
  bool wants_spare_ =
      false;             // since a vCPU's thread was asked for, and until idle ones are given up
  Status spare_failed_;  // why wants_spare_ ended, where making one failed
  std::condition_variable spare_changed_;
  std::unique_ptr<Thread> maker_;  // as it is from create() on
};

// A thread that runs one body. Like Thread, but what is underneath may have run others before.
//
// Thread rule: signal() from any thread; join() and destruction from one, not its own.
class JailedThread {
 public:
  JailedThread(Jail* jail, std::unique_ptr<Jail::Cell> cell);
  // Joins if join() was not called.
  ~JailedThread();
  JailedThread(const JailedThread&) = delete;
  JailedThread& operator=(const JailedThread&) = delete;

  // Waits for the body's end.
  void join();
  // Sends `signal` to the thread. Legal until join() was called.
  Status signal(int signal) const;
  // What the thread has used of processors, other bodies before included. Legal until join() was
  // called.
  StatusOr<uint64_t> cpu_ns() const;
  // True once a call of this thread was refused.
  bool was_refused() const;

 private:
  Jail& jail_;
  std::unique_ptr<Jail::Cell> cell_;
};

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_JAIL_H_
