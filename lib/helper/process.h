// HelperProcess: one helper process as the embedder's process holds it: its end, and requests with
// their replies.
//
// Thread rule: start() on the spawner's thread; the rest from any thread, requests one at a time.
// Invariant: a reply is taken for its own request only. After one that is no reply no other request
// is made. Destruction kills the process and waits for its end.
#ifndef RAMET_LIB_HELPER_PROCESS_H_
#define RAMET_LIB_HELPER_PROCESS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "lib/helper/wire/bounds.h"
#include "lib/helper/wire/messages.h"
#include "vmm/base/status.h"
#include "vmm/base/timed_mutex.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/cgroup.h"
#include "vmm/jail/enclosure.h"
#include "vmm/jail/spawn.h"

namespace ramet::helper {

class HelperProcess {
 public:
  // Starts `program` (an executable file) with a duplicate of the KVM device's descriptor, in
  // `cgroup` where there is one, and waits for its first message. Unavailable or DeadlineExceeded
  // where none comes.
  static StatusOr<std::unique_ptr<HelperProcess>> start(
      int program, int kvm, std::unique_ptr<jail::Cgroup> cgroup = nullptr);
  ~HelperProcess();
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;

  const jail::Enclosure& enclosure() const { return enclosure_; }
  // What it may use from now on, as its control group enforces and wait_end() explains; before its
  // machine is made.
  Status bound(const HelperBounds& bounds, const InstanceLimits& limits,
               std::vector<dev_t> io_devices);
  // Where it tells what happens; once.
  UniqueFd take_events() { return std::move(events_); }

  // What the helper answers: the status of its Done. Unavailable where it has gone,
  // DeadlineExceeded, DataLoss where it answers nonsense.
  Status request(const Request& request, uint64_t deadline_ns, std::span<const int> files = {});
  StatusOr<InstanceMetrics> ask_metrics(uint64_t deadline_ns);
  StatusOr<MemoryUse> ask_memory(uint64_t deadline_ns);

  bool alive() const;
  // Never blocks.
  void kill();
  // The same where it has not ended by itself after so many milliseconds.
  void kill_unless_ending(int milliseconds);
  // Waits until it has ended; OK where it was killed by us or exited in order, else why it ended.
  // The same answer each time. Then its descriptors are closed.
  Status wait_end();

 private:
  HelperProcess(jail::SpawnedProcess process, std::unique_ptr<jail::Cgroup> cgroup,
                UniqueFd control, UniqueFd events);
  Status await_hello();
  // The reply with this number; older ones were given up waiting for.
  StatusOr<Reply> receive(Sequence number, uint64_t deadline_ns);
  Status describe(const jail::ProcessEnd& end) const;
  // The answer to a question: of its own type, or why there is none.
  template <typename Answer>
  StatusOr<Answer> ask(const Request& request, uint64_t deadline_ns);
  StatusOr<Reply> converse(const Request& request, uint64_t deadline_ns,
                           std::span<const int> files);

  std::unique_ptr<jail::Cgroup> cgroup_;  // null where there is none, and after the end
  jail::Enclosure enclosure_;
  HelperBounds bounds_;
  InstanceLimits limits_;
  UniqueFd events_;
  // Around one request and its reply; what must not wait long for another gives up in time.
  mutable TimedMutex mutex_;
  UniqueFd control_;
  Status broken_;
  Sequence last_ = 0;
  std::vector<std::byte> room_;

  std::mutex end_mutex_;  // never taken with mutex_ held, for a request may wait long
  UniqueFd pidfd_;
  std::optional<Status> end_;
  std::atomic<bool> killed_{false};
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROCESS_H_
