#include "vmm/memory/stack_pool.h"

#include <algorithm>

namespace ramet {

StackPool::Stack::~Stack() {
  if (pool_ != nullptr) {
    pool_->give_back(bytes_.data());
  }
}

StatusOr<StackPool::Stack> StackPool::take() {
  const std::lock_guard lock(mutex_);
  const auto has_one = [](const std::unique_ptr<Slab>& slab) { return !slab->free.empty(); };
  auto found = std::ranges::find_if(slabs_, has_one);
  if (found == slabs_.end()) {
    RAMET_RETURN_IF_ERROR(add_slab_locked());
    found = std::prev(slabs_.end());
  }
  std::byte* start = (*found)->free.back();
  (*found)->free.pop_back();
  return Stack(this, {start, bytes_});
}

Status StackPool::add_slab_locked() {
  auto slab = std::make_unique<Slab>();
  RAMET_ASSIGN_OR_RETURN(slab->mapping, Mapping::map_stacks(kStacksInMapping * stride()));
  slab->free.reserve(kStacksInMapping);
  for (size_t i = kStacksInMapping; i-- > 0;) {
    RAMET_RETURN_IF_ERROR(slab->mapping.guard_page(i * stride()));
    slab->free.push_back(slab->mapping.data() + i * stride() + kPageSize);
  }
  slabs_.push_back(std::move(slab));
  return Status();
}

void StackPool::give_back(std::byte* stack) {
  const std::lock_guard lock(mutex_);
  const auto owns = [&](const std::unique_ptr<Slab>& slab) {
    return stack >= slab->mapping.data() && stack < slab->mapping.data() + slab->mapping.size();
  };
  (*std::ranges::find_if(slabs_, owns))->free.push_back(stack);
  drop_unused_locked(1);
}

void StackPool::drop_unused_locked(size_t keep) {
  std::erase_if(slabs_, [&](const std::unique_ptr<Slab>& slab) {
    if (slab->free.size() < kStacksInMapping) {
      return false;
    }
    if (keep == 0) {
      return true;
    }
    --keep;
    return false;
  });
}

size_t StackPool::mappings() const {
  const std::lock_guard lock(mutex_);
  return slabs_.size();
}

void StackPool::trim() {
  const std::lock_guard lock(mutex_);
  drop_unused_locked(0);
}

}  // namespace ramet
