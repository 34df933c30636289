// Supervisor: the thread without a filter that answers the calls which filters hold up
// (seccomp_unotify(2), whose word for it this is), and one that tells of them.
//
// Thread rule: add(), remove() and listeners() from any thread; a Judge runs on the answering
// thread, what it leaves to be done on the telling one. Invariant: each held call is answered once,
// whatever its listener's function does meanwhile.
#ifndef RAMET_VMM_JAIL_SUPERVISOR_H_
#define RAMET_VMM_JAIL_SUPERVISOR_H_

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "vmm/base/status.h"
#include "vmm/base/thread.h"
#include "vmm/base/unique_fd.h"

struct seccomp_notif;
struct seccomp_notif_resp;

namespace ramet::jail {

// A call that a filter holds up.
struct HeldCall {
  int number = 0;
  uint32_t architecture = 0;  // AUDIT_ARCH_*
  std::array<uint64_t, 6> arguments = {};
};

struct Verdict {
  bool allow = false;  // go on with the call as if there were no filter; else EPERM
  // Runs after the answer, on a thread of its own, and so may wait for what a held thread holds.
  // Dropped where a thousand wait already.
  std::function<void()> then = {};
};

class Supervisor {
 public:
  using Judge = std::function<Verdict(const HeldCall&)>;

  static StatusOr<std::unique_ptr<Supervisor>> start();
  // Stops the threads. A call that is held then, or later, fails with ENOSYS.
  ~Supervisor();

  // Takes over a filter's listener. `judge` runs while the caller is held: it must take no lock
  // that a confined thread may hold.
  // Returns a name for remove().
  StatusOr<uint64_t> add(UniqueFd listener, Judge judge);
  // Once the threads behind it have ended: its descriptor is closed when this returns.
  void remove(uint64_t id);

  // Listeners it has now.
  size_t listeners() const;

 private:
  struct Listener {
    UniqueFd fd;
    Judge judge;
  };

  Supervisor() = default;
  Status prepare();
  void answer_calls();
  void tell();
  void leave_to_tell(std::function<void()> what);
  std::shared_ptr<const Listener> find(uint64_t id) const;
  // False where a held thread could not be answered.
  bool serve(const Listener& listener);

  UniqueFd epoll_;
  UniqueFd stop_;
  size_t request_bytes_ = 0;   // of struct seccomp_notif, as this kernel has it
  size_t response_bytes_ = 0;  // of struct seccomp_notif_resp
  mutable std::mutex mutex_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<const Listener>> listeners_;

  std::mutex tell_mutex_;
  std::condition_variable to_tell_changed_;
  std::deque<std::function<void()>> to_tell_;
  bool stopping_ = false;

  // Last: they use all of the above.
  std::unique_ptr<Thread> answering_;
  std::unique_ptr<Thread> telling_;
};

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_SUPERVISOR_H_
