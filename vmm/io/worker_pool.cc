#include "vmm/io/worker_pool.h"

#include <chrono>

#include <absl/strings/str_format.h>

namespace ramet {

StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::start(const std::string& name, uint32_t threads) {
  std::unique_ptr<WorkerPool> pool(new WorkerPool());
  for (uint32_t i = 0; i < threads; ++i) {
    RAMET_ASSIGN_OR_RETURN(auto thread, Thread::start(absl::StrFormat("%s%d", name, i),
                                                      [self = pool.get()] { self->body(); }));
    pool->threads_.push_back(std::move(thread));
  }
  return pool;
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (const auto& thread : threads_) {
    thread->join();
  }
}

void WorkerPool::post(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  ++posted_;
  changed_.notify_all();
}

// With several threads "the first N have ended" is not the same as "N have ended", so the drain
// waits until all that was posted has; later jobs can only make it wait longer.
Status WorkerPool::drain(uint64_t deadline_ns) {
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline, [&] { return ended_ == posted_; })) {
    return absl::DeadlineExceededError(
        absl::StrFormat("%d jobs had not ended at the deadline", posted_ - ended_));
  }
  return Status();
}

void WorkerPool::body() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) {
      return;
    }
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // what it owns goes before it counts as ended
    lock.lock();
    ++ended_;
    changed_.notify_all();
  }
}

}  // namespace ramet
