// Thread: a joined-on-destruction thread made the way Ramet makes every thread: small stack,
// signals blocked.
//
// Thread rule: create and join from any one thread; join at most once.
// Invariant: every signal but the synchronous faults is blocked in it (docs/design.md section 4),
// and its stack is kThreadStackBytes, with a page below it that cannot be touched.
#ifndef RAMET_VMM_BASE_THREAD_H_
#define RAMET_VMM_BASE_THREAD_H_

#include <pthread.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "vmm/base/status.h"

namespace ramet {

#if !defined(RAMET_SANITIZED)
inline constexpr size_t kThreadStackBytes = 256 * 1024;
#else  // ThreadSanitizer's run-time wants 900 KiB of it
inline constexpr size_t kThreadStackBytes = 2 * 1024 * 1024;
#endif

class Thread {
 public:
  // The calling thread gets a quarter of what others get of a processor that they want, too (a nice
  // value of 6 more, sched(7)), and so do the threads that it makes from then on. There is no way
  // back without privilege.
  static void lower_priority();
  // The calling thread's nice value: the higher, the lower its priority.
  static int niceness();

  // Starts `body` in a new thread called `name` (cut to kNameChars), on `stack`, which outlives it;
  // empty: on one of the C library's.
  // ResourceExhausted or Unavailable where the host grants no thread.
  static StatusOr<std::unique_ptr<Thread>> start(const std::string& name,
                                                 std::function<void()> body,
                                                 std::span<std::byte> stack = {});
  // Joins if join() was not called.
  ~Thread();
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  void join();
  // Sends `signal` to this thread (tgkill by way of pthread_kill). Legal until join() has returned.
  Status signal(int signal) const;
  // What it has used of processors since it began, guest code included, in nanoseconds. Legal until
  // join() has returned.
  StatusOr<uint64_t> cpu_ns() const;

 private:
  Thread(const std::string& name, std::function<void()> body)
      : name_(name.substr(0, kNameChars)), body_(std::move(body)) {}
  static void* entry(void* self);
  static constexpr size_t kNameChars = 15;  // pthread_setname_np(3)

  const std::string name_;
  std::function<void()> body_;
  pthread_t handle_ = {};
  bool started_ = false;
};

}  // namespace ramet

#endif  // RAMET_VMM_BASE_THREAD_H_
