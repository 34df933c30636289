#include "lib/helper/learned_set.h"

#include <algorithm>
#include <utility>

namespace ramet::helper {

void LearnedSet::add(const std::shared_ptr<const WorkerProcess::Learned>& learned) {
  Kept kept = WorkerProcess::keep(learned);
  std::vector<Kept> ended;  // which is told to processes: not under the lock
  const std::lock_guard lock(mutex_);
  if (std::ranges::find(all_, kept) != all_.end()) {
    return;
  }
  const auto first_ended = std::partition(all_.begin(), all_.end(), [](const Kept& each) {
    const auto known = each->get();
    return known != nullptr && WorkerProcess::is_known(*known);
  });
  ended.assign(first_ended, all_.end());
  all_.erase(first_ended, all_.end());
  all_.push_back(std::move(kept));
}

}  // namespace ramet::helper
