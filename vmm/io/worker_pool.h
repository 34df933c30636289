// WorkerPool: a few threads that run posted jobs in order of posting.
//
// Thread rule: every method from any thread; those that wait, and destruction, not from a job.
// Invariant: every posted job runs exactly once; the destructor runs what is queued and joins.
#ifndef RAMET_VMM_IO_WORKER_POOL_H_
#define RAMET_VMM_IO_WORKER_POOL_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/jail/jail.h"

namespace ramet {

class WorkerPool {
 public:
  // Threads of this kind, made by `jail`, which outlives the pool.
  static StatusOr<std::unique_ptr<WorkerPool>> start(jail::Jail* jail, jail::ThreadKind kind,
                                                     uint32_t threads);
  // Threads without a filter. In the background: for what nobody waits for.
  enum class Priority : uint8_t { kNormal, kBackground };
  static StatusOr<std::unique_ptr<WorkerPool>> start_unconfined(
      jail::Jail* jail, const std::string& name, uint32_t threads = 1,
      Priority priority = Priority::kNormal);
  ~WorkerPool();

  // `tenant` answers for what the job does; none: nobody but the engine is told.
  void post(std::function<void()> job, std::shared_ptr<jail::Tenant> tenant = nullptr);
  // The same, not before `due_ns` (CLOCK_MONOTONIC); the destructor runs what is not yet due.
  void post_at(uint64_t due_ns, std::function<void()> job,
               std::shared_ptr<jail::Tenant> tenant = nullptr);
  // Puts a new thread in the place of each that was refused a system call, which leaves after the
  // job it is at; those of before that have left are gone then. Not from a job.
  Status renew_refused();
  // Waits until every job posted before the call has ended. DeadlineExceeded at `deadline_ns`
  // (CLOCK_MONOTONIC).
  Status drain(uint64_t deadline_ns);
  // Waits until fewer than `jobs` are to be done. DeadlineExceeded at `deadline_ns`.
  Status wait_below(uint64_t jobs, uint64_t deadline_ns);

 private:
  struct Job {
    std::function<void()> run;
    std::shared_ptr<jail::Tenant> tenant;
  };

  struct Worker {
    std::unique_ptr<jail::JailedThread> thread;
    bool replaced = false;
    bool left = false;  // its body has ended, or is about to
  };

  WorkerPool(jail::Jail* jail, std::optional<jail::ThreadKind> kind, std::string name)
      : jail_(*jail), kind_(kind), name_(std::move(name)) {}
  Status add_worker();
  void drop_left();
  void body(jail::TenantSlot* slot, Worker* self);
  // With mutex_ held: until there is a job, true, or this worker is to leave.
  bool wait_for_job(std::unique_lock<std::mutex>* lock, const Worker& self);
  void move_due();

  jail::Jail& jail_;
  const std::optional<jail::ThreadKind> kind_;  // none: without a filter
  const std::string name_;                      // of a thread without a kind
  Priority priority_ = Priority::kNormal;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  std::multimap<uint64_t, Job> later_;  // by the time when they are due
  uint64_t posted_ = 0;
  uint64_t ended_ = 0;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace ramet

#endif  // RAMET_VMM_IO_WORKER_POOL_H_
