#include "lib/helper/workers.h"

#include "vmm/base/clock.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kStartWithin = 10'000'000'000;

}  // namespace

StatusOr<std::unique_ptr<Workers>> Workers::start(std::unique_ptr<HelperPool> pool,
                                                  const WorkerProcess::Parts& parts,
                                                  uint32_t processes) {
  std::unique_ptr<Workers> self(new Workers(std::move(pool), parts));
  const uint64_t deadline = monotonic_ns() + kStartWithin;
  for (uint32_t i = 0; i < processes; ++i) {
    RAMET_ASSIGN_OR_RETURN(self->processes_.emplace_back(), self->start_one(deadline));
  }
  return self;
}

StatusOr<std::shared_ptr<WorkerProcess>> Workers::start_one(uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(auto process, pool_->take(deadline_ns));
  return WorkerProcess::create(std::move(process), parts_);
}

StatusOr<std::shared_ptr<const WorkerProcess::Seat>> Workers::choose(uint64_t deadline_ns) {
  const std::lock_guard lock(mutex_);
  // Others that fork meanwhile wait for one that is started in the place of a dead one: it has the
  // fewest machines. Where none can be had those that live take its machines.
  WorkerProcess* chosen = nullptr;
  Status failed;
  for (auto& process : processes_) {
    if (!process->alive()) {
      auto started = start_one(deadline_ns);
      if (!started.ok()) {
        failed.Update(started.status());
        continue;
      }
      process = *std::move(started);
    }
    if (chosen == nullptr || process->seats() < chosen->seats()) {
      chosen = process.get();
    }
  }
  RAMET_RETURN_IF_ERROR(chosen == nullptr ? failed : Status());
  return chosen->reserve();
}

void Workers::relieve() {
  std::vector<std::shared_ptr<WorkerProcess>> processes;
  {
    // While another starts a process nobody here waits for it.
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock.owns_lock()) {
      processes = processes_;
    }
  }
  for (const auto& process : processes) {
    process->relieve();
  }
}

}  // namespace ramet::helper
