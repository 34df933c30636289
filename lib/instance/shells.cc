#include "lib/instance/shells.h"

#include <utility>

#include "lib/instance/shell_pool.h"

namespace ramet {

std::shared_ptr<ShellPool> Shells::add(std::function<StatusOr<std::unique_ptr<Machine>>()> make) {
  auto pool = std::make_shared<ShellPool>(this, std::move(make));
  const std::lock_guard lock(mutex_);
  std::erase_if(pools_, [](const std::weak_ptr<ShellPool>& each) { return each.expired(); });
  pools_.push_back(pool);
  return pool;
}

size_t Shells::drop() {
  std::vector<std::shared_ptr<ShellPool>> pools;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& each : pools_) {
      if (auto pool = each.lock()) {
        pools.push_back(std::move(pool));
      }
    }
  }
  size_t dropped = 0;
  for (const auto& pool : pools) {
    dropped += pool->drop();
  }
  return dropped;
}

bool Shells::take_place() {
  const std::lock_guard lock(mutex_);
  if (taken_ >= parts_.max) {
    return false;
  }
  ++taken_;
  return true;
}

void Shells::give_places(size_t count) {
  const std::lock_guard lock(mutex_);
  taken_ -= count;
}

}  // namespace ramet
