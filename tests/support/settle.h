// What a process has open and running, counted once it has come to rest.
//
// Thread rule: the test's thread.
// Why: a thread leaves /proc/self/task a moment after its join has returned, and a listener's
// descriptor is closed by another thread.
#ifndef RAMET_TESTS_SUPPORT_SETTLE_H_
#define RAMET_TESTS_SUPPORT_SETTLE_H_

#include <chrono>
#include <filesystem>
#include <functional>
#include <iterator>
#include <thread>

namespace ramet::testing {

inline size_t count_in(const char* directory) {
  const std::filesystem::directory_iterator all(directory);
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}
inline size_t thread_count() { return count_in("/proc/self/task"); }
inline size_t descriptor_count() { return count_in("/proc/self/fd"); }

// Waits until `condition` holds, half a minute at most; false where it does not.
inline bool wait_for(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return condition();
}

// Waits until `count` gives no more than `wanted`, and says what it gave last.
inline size_t settled(size_t (*count)(), size_t wanted) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  size_t last = count();
  while (last > wanted && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    last = count();
  }
  return last;
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_SETTLE_H_
