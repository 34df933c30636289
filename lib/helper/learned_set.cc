#include "lib/helper/learned_set.h"

#include <algorithm>
#include <utility>

namespace ramet::helper {

void LearnedSet::add(std::shared_ptr<const WorkerProcess::Learned> learned) {
  // Their ends are told to processes: not under the lock.
  std::vector<std::shared_ptr<const WorkerProcess::Learned>> of_dead;
  const std::lock_guard lock(mutex_);
  if (std::ranges::find(all_, learned) != all_.end()) {
    return;
  }
  const auto dead = std::partition(all_.begin(), all_.end(),
                                   [](const auto& each) { return WorkerProcess::is_known(*each); });
  of_dead.assign(dead, all_.end());
  all_.erase(dead, all_.end());
  all_.push_back(std::move(learned));
}

}  // namespace ramet::helper
