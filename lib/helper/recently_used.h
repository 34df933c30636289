// RecentlyUsed: keeps alive what was used last, so many of them, each only for as long as its user
// wants it kept.
//
// Thread rule: every method from any thread.
#ifndef RAMET_LIB_HELPER_RECENTLY_USED_H_
#define RAMET_LIB_HELPER_RECENTLY_USED_H_

#include <algorithm>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace ramet::helper {

template <typename T>
class RecentlyUsed {
 public:
  // Keeps one for as long as this lives, and until `most` others were used later than it.
  class Kept {
   public:
    explicit Kept(std::shared_ptr<T> what) : what_(std::move(what)) {}
    // Null: no longer.
    std::shared_ptr<T> get() const {
      const std::lock_guard lock(mutex_);
      return what_;
    }

   private:
    friend class RecentlyUsed;
    std::shared_ptr<T> let_go() {
      const std::lock_guard lock(mutex_);
      return std::move(what_);
    }

    mutable std::mutex mutex_;
    std::shared_ptr<T> what_;
  };

  explicit RecentlyUsed(size_t most) : most_(most) {}

  // It is the one used last, whether it was kept already or not.
  std::shared_ptr<const Kept> use(std::shared_ptr<T> what) {
    std::shared_ptr<T> oldest;  // whose end is nothing for under the lock
    const std::lock_guard lock(mutex_);
    std::erase_if(kept_, [](const Entry& each) { return each.kept.expired(); });
    const T* const key = what.get();
    std::shared_ptr<Kept> used = take(key);
    if (used == nullptr) {
      used = std::make_shared<Kept>(std::move(what));
    }
    kept_.push_back({key, used});
    if (kept_.size() > most_) {
      if (const auto first = kept_.front().kept.lock()) {
        oldest = first->let_go();
      }
      kept_.pop_front();
    }
    return used;
  }

 private:
  // What lives has its address alone; only that one is taken hold of, for to be its last holder is
  // to end it here, under the lock.
  struct Entry {
    const T* what = nullptr;
    std::weak_ptr<Kept> kept = {};
  };

  std::shared_ptr<Kept> take(const T* what) {
    const auto found =
        std::ranges::find_if(kept_, [&](const Entry& each) { return each.what == what; });
    if (found == kept_.end()) {
      return nullptr;
    }
    std::shared_ptr<Kept> kept = found->kept.lock();
    kept_.erase(found);
    return kept;
  }

  const size_t most_;
  std::mutex mutex_;
  std::deque<Entry> kept_;  // the one used last at the end
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_RECENTLY_USED_H_
