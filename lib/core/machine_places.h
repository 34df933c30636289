// MachinePlaces: how many machines a process takes before others go to worker processes.
//
// Thread rule: every method from any thread. A Place may outlive its MachinePlaces.
// Invariant: no more places are taken at once than there are.
#ifndef RAMET_LIB_CORE_MACHINE_PLACES_H_
#define RAMET_LIB_CORE_MACHINE_PLACES_H_

#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>

namespace ramet {

class MachinePlaces {
 public:
  // Given back by its destruction.
  class Place;

  static constexpr size_t kNoEnd = std::numeric_limits<size_t>::max();
  explicit MachinePlaces(size_t count) : free_(std::make_shared<Free>(count)) {}

  // Null where all are taken.
  std::shared_ptr<const Place> take();

 private:
  struct Free {
    explicit Free(size_t left) : count(left) {}
    std::mutex mutex;
    size_t count;
  };
  const std::shared_ptr<Free> free_;
};

class MachinePlaces::Place {
 public:
  explicit Place(std::shared_ptr<Free> from) : from_(std::move(from)) {}
  ~Place() {
    const std::lock_guard lock(from_->mutex);
    ++from_->count;
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

 private:
  const std::shared_ptr<Free> from_;
};

inline std::shared_ptr<const MachinePlaces::Place> MachinePlaces::take() {
  {
    const std::lock_guard lock(free_->mutex);
    if (free_->count == 0) {
      return nullptr;
    }
    --free_->count;
  }
  return std::make_shared<const Place>(free_);
}

}  // namespace ramet

#endif  // RAMET_LIB_CORE_MACHINE_PLACES_H_
