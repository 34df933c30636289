// Loop and Watch: one epoll set, and one descriptor's membership in it.
//
// Thread rule: one thread.
// Invariant: a handler is never called after its Watch is gone, also when it goes during the very
// batch of events that names it.
#ifndef RAMET_LIB_AGENT_GUEST_LOOP_H_
#define RAMET_LIB_AGENT_GUEST_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "vmm/base/unique_fd.h"

namespace ramet::guest {

// CLOCK_MONOTONIC.
uint64_t now_ns();

class Loop {
 public:
  using Handler = std::function<void(uint32_t events)>;

  // False when the kernel gives no epoll set (errno says why).
  bool open();
  // Waits until `deadline_ns` (0 = for ever) and calls the handlers of what is ready. False when
  // the epoll set failed.
  bool run_once(uint64_t deadline_ns);

 private:
  friend class Watch;
  UniqueFd epoll_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Handler>> handlers_;
};

class Watch {
 public:
  Watch() = default;
  ~Watch() { stop(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // `fd` stays open until stop(); both outlive the watch. False when epoll refused.
  bool start(Loop& loop, int fd, uint32_t events, Loop::Handler handler);
  // 0 takes the descriptor out of the set, so that a hang-up is not reported either.
  void set_events(uint32_t events);
  void stop();

 private:
  Loop* loop_ = nullptr;
  int fd_ = -1;
  uint64_t id_ = 0;
  uint32_t events_ = 0;
};

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_LOOP_H_
