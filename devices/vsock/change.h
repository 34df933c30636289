// Change: what users of a connection or a listener wait for: a condition variable, and at most one
// function for a user that waits elsewhere.
//
// Thread rule: everything with the core's mutex held.
#ifndef RAMET_DEVICES_VSOCK_CHANGE_H_
#define RAMET_DEVICES_VSOCK_CHANGE_H_

#include <condition_variable>
#include <functional>

namespace ramet::vsock {

struct Change {
  std::condition_variable waiters;
  std::function<void()> listener;  // takes no lock and does not block

  void notify_all() {
    waiters.notify_all();
    if (listener) {
      listener();
    }
  }
};

}  // namespace ramet::vsock

#endif  // RAMET_DEVICES_VSOCK_CHANGE_H_
