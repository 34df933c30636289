// Console: takes what the guest prints on its serial line, passes it on by lines, and keeps the end
// for error messages.
//
// Thread rule: every method from any thread. A listener that is the embedder's code never runs on a
// thread that serves the guest, but on `calls`, in order, and is destroyed there; destruction waits
// for it.
// Invariant: holds at most 2 * kKeptBytes for messages, and kMaxWaiting for a listener that is
// slower than its guest: what is beyond is dropped, and the listener told how much.
#ifndef RAMET_LIB_INSTANCE_CONSOLE_H_
#define RAMET_LIB_INSTANCE_CONSOLE_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "vmm/io/worker_pool.h"

namespace ramet {

// What stands in a console's text where so much of it was dropped.
std::string dropped_notice(size_t bytes);

class Console {
 public:
  static constexpr size_t kKeptBytes = 8192;
  static constexpr size_t kMaxLine = 512;
  static constexpr size_t kMaxWaiting = 1 << 20;

  // `calls` has one thread and outlives the console. It may be null: then a listener is called at
  // once, by whoever appends, one at a time, and must not wait.
  Console(WorkerPool* calls, std::function<void(std::string_view)> listener)
      : calls_(calls), listener_(std::move(listener)) {}
  // Passes an unfinished line on.
  ~Console();

  void append(std::byte byte);
  // The last `lines` lines, made printable, joined by " | ".
  std::string last_lines(size_t lines) const;

 private:
  void pass_on();
  void tell(std::string text);

  WorkerPool* const calls_;
  std::function<void(std::string_view)> listener_;
  mutable std::mutex mutex_;
  std::string line_;  // not yet passed on
  std::string kept_;
  size_t waiting_ = 0;  // bytes that the listener has not yet taken
  size_t dropped_ = 0;  // and that it will never see
  std::condition_variable listener_gone_;
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_CONSOLE_H_
