// StackPool: the stacks of threads, many in one mapping: KVM_CREATE_VM walks every mapping of the
// process, so that what each machine has of its own makes all later ones dearer.
//
// Thread rule: every method from any thread; a Stack like std::unique_ptr, and not longer than its
// pool.
// Invariant: below each stack lies a page that cannot be touched. A stack has one owner at a time.
#ifndef RAMET_VMM_MEMORY_STACK_POOL_H_
#define RAMET_VMM_MEMORY_STACK_POOL_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/memory/mapping.h"

namespace ramet {

class StackPool {
 public:
  static constexpr size_t kStacksInMapping = 32;

  class Stack {
   public:
    Stack() = default;
    Stack(Stack&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}
    Stack& operator=(Stack&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Stack();

    std::span<std::byte> bytes() const { return bytes_; }

   private:
    friend class StackPool;
    Stack(StackPool* pool, std::span<std::byte> bytes) : pool_(pool), bytes_(bytes) {}

    StackPool* pool_ = nullptr;
    std::span<std::byte> bytes_;
  };

  // Of `bytes` each, a multiple of the page size.
  explicit StackPool(size_t bytes) : bytes_(bytes) {}
  StackPool(const StackPool&) = delete;
  StackPool& operator=(const StackPool&) = delete;

  StatusOr<Stack> take();
  // Mappings that it holds: no more than one of which no stack is taken.
  size_t mappings() const;
  // Gives that one back to the host too.
  void trim();

 private:
  struct Slab {
    Mapping mapping;
    std::vector<std::byte*> free;  // where they begin
  };

  size_t stride() const { return bytes_ + kPageSize; }
  Status add_slab_locked();
  void give_back(std::byte* stack);
  // Unmaps those of which no stack is taken, but for so many.
  void drop_unused_locked(size_t keep);

  const size_t bytes_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Slab>> slabs_;
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_STACK_POOL_H_
