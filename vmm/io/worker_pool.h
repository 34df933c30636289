// WorkerPool: a few threads that run posted jobs in order of posting.
//
// Thread rule: post() and drain() from any thread; drain() and destruction not from a job.
// Invariant: every posted job runs exactly once; the destructor runs what is queued and joins.
#ifndef RAMET_VMM_IO_WORKER_POOL_H_
#define RAMET_VMM_IO_WORKER_POOL_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/thread.h"

namespace ramet {

class WorkerPool {
 public:
  static StatusOr<std::unique_ptr<WorkerPool>> start(const std::string& name, uint32_t threads);
  ~WorkerPool();

  void post(std::function<void()> job);
  // Waits until every job posted before the call has ended. DeadlineExceeded at `deadline_ns`
  // (CLOCK_MONOTONIC).
  Status drain(uint64_t deadline_ns);

 private:
  WorkerPool() = default;
  void body();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  uint64_t posted_ = 0;
  uint64_t ended_ = 0;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Thread>> threads_;
};

}  // namespace ramet

#endif  // RAMET_VMM_IO_WORKER_POOL_H_
