#include "vmm/io/worker_pool.h"

#include <algorithm>
#include <chrono>
#include <iterator>

#include <absl/strings/str_format.h>

#include "vmm/base/clock.h"

namespace ramet {

StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::start(jail::Jail* jail, jail::ThreadKind kind,
                                                        uint32_t threads) {
  std::unique_ptr<WorkerPool> pool(new WorkerPool(jail, kind, {}));
  for (uint32_t i = 0; i < threads; ++i) {
    RAMET_RETURN_IF_ERROR(pool->add_worker());
  }
  return pool;
}

StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::start_unconfined(jail::Jail* jail,
                                                                   const std::string& name,
                                                                   uint32_t threads,
                                                                   Priority priority) {
  std::unique_ptr<WorkerPool> pool(new WorkerPool(jail, std::nullopt, name));
  pool->priority_ = priority;
  for (uint32_t i = 0; i < threads; ++i) {
    RAMET_RETURN_IF_ERROR(pool->add_worker());
  }
  return pool;
}

Status WorkerPool::add_worker() {
  auto worker = std::make_unique<Worker>();
  const auto run = [this, self = worker.get()](jail::TenantSlot& slot) { body(&slot, self); };
  RAMET_ASSIGN_OR_RETURN(worker->thread,
                         kind_ ? jail_.run(*kind_, run) : jail_.run_unconfined(name_, run));
  const std::lock_guard lock(mutex_);
  workers_.push_back(std::move(worker));
  return Status();
}

void WorkerPool::drop_left() {
  std::vector<std::unique_ptr<Worker>> left;  // joined without the lock
  const std::lock_guard lock(mutex_);
  const auto stays = [](const auto& worker) { return !worker->replaced || !worker->left; };
  const auto first = std::stable_partition(workers_.begin(), workers_.end(), stays);
  std::move(first, workers_.end(), std::back_inserter(left));
  workers_.erase(first, workers_.end());
}

Status WorkerPool::renew_refused() {
  drop_left();
  std::vector<Worker*> refused;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& worker : workers_) {
      if (!worker->replaced && worker->thread->was_refused()) {
        refused.push_back(worker.get());
      }
    }
  }
  for (Worker* worker : refused) {
    // First the new one: with none, the old one is better than nobody.
    RAMET_RETURN_IF_ERROR(add_worker());
    const std::lock_guard lock(mutex_);
    worker->replaced = true;
    changed_.notify_all();
  }
  return Status();
}

WorkerPool::~WorkerPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (const auto& worker : workers_) {
    worker->thread->join();
  }
}

void WorkerPool::post(std::function<void()> job, std::shared_ptr<jail::Tenant> tenant) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back({std::move(job), std::move(tenant)});
  ++posted_;
  changed_.notify_all();
}

void WorkerPool::post_at(uint64_t due_ns, std::function<void()> job,
                         std::shared_ptr<jail::Tenant> tenant) {
  const std::lock_guard lock(mutex_);
  later_.emplace(due_ns, Job{std::move(job), std::move(tenant)});
  ++posted_;
  changed_.notify_all();
}

void WorkerPool::move_due() {
  const uint64_t now = later_.empty() ? 0 : monotonic_ns();
  bool moved = false;
  while (!later_.empty() && (stopping_ || later_.begin()->first <= now)) {
    jobs_.push_back(std::move(later_.begin()->second));
    later_.erase(later_.begin());
    moved = true;
  }
  if (moved) {
    changed_.notify_all();
  }
}

bool WorkerPool::wait_for_job(std::unique_lock<std::mutex>* lock, const Worker& self) {
  while (true) {
    move_due();
    if (self.replaced || (stopping_ && jobs_.empty())) {
      return false;
    }
    if (!jobs_.empty()) {
      return true;
    }
    if (later_.empty()) {
      changed_.wait(*lock);
    } else {
      changed_.wait_until(*lock, std::chrono::steady_clock::time_point(
                                     std::chrono::nanoseconds(later_.begin()->first)));
    }
  }
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

Status WorkerPool::wait_below(uint64_t jobs, uint64_t deadline_ns) {
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline, [&] { return posted_ - ended_ < jobs; })) {
    return absl::DeadlineExceededError(
        absl::StrFormat("%d jobs were to be done at the deadline", posted_ - ended_));
  }
  return Status();
}

void WorkerPool::body(jail::TenantSlot* slot, Worker* self) {
  if (priority_ == Priority::kBackground) {
    Thread::lower_priority();
  }
  std::unique_lock lock(mutex_);
  while (wait_for_job(&lock, *self)) {
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    slot->set(std::move(job.tenant));
    job.run();
    job.run = nullptr;  // what it owns goes before it counts as ended
    slot->set(nullptr);
    lock.lock();
    ++ended_;
    changed_.notify_all();
  }
  self->left = true;
}

}  // namespace ramet
