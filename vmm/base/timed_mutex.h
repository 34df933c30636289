// TimedMutex: a mutex that a thread gives up waiting for at a deadline, for std::unique_lock and
// std::lock_guard.
//
// Thread rule: as std::timed_mutex, in whose place it stands: that one locks by
// pthread_mutex_clocklock(3), which the ThreadSanitizer of gcc 12 does not know of, and so takes
// for no lock.
#ifndef RAMET_VMM_BASE_TIMED_MUTEX_H_
#define RAMET_VMM_BASE_TIMED_MUTEX_H_

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace ramet {

class TimedMutex {
 public:
  // Lockable's own names.
  void lock() {
    std::unique_lock lock(mutex_);
    freed_.wait(lock, [&] { return !held_; });
    held_ = true;
  }
  bool try_lock_until(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    if (!freed_.wait_until(lock, deadline, [&] { return !held_; })) {
      return false;
    }
    held_ = true;
    return true;
  }
  void unlock() {
    const std::lock_guard lock(mutex_);
    held_ = false;
    freed_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable freed_;
  bool held_ = false;
};

}  // namespace ramet

#endif  // RAMET_VMM_BASE_TIMED_MUTEX_H_
