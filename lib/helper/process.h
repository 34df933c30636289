// HelperProcess: one helper process, or worker process, as the embedder's process holds it.
//
// Thread rule: start() on the spawner's thread; the rest from any thread.
// Invariant: destruction kills the process and waits for its end.
#ifndef RAMET_LIB_HELPER_PROCESS_H_
#define RAMET_LIB_HELPER_PROCESS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/helper/machine_home.h"
#include "lib/helper/wire/bounds.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/cgroup.h"
#include "vmm/jail/enclosure.h"
#include "vmm/jail/spawn.h"

namespace ramet::helper {

struct HelperStart {
  int program = -1;                                // an executable file
  int kvm = -1;                                    // of which it gets a duplicate
  std::string_view role = {};                      // lib/helper/wire/build.h; empty: a helper
  std::unique_ptr<jail::Cgroup> cgroup = nullptr;  // that it begins in
};

class HelperProcess final : public MachineHome {
 public:
  // Starts it and waits for its first message. Unavailable or DeadlineExceeded where none comes.
  static StatusOr<std::unique_ptr<HelperProcess>> start(HelperStart how);
  ~HelperProcess() override;
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;

  const jail::Enclosure& enclosure() const { return enclosure_; }
  // What it may use from now on, as its control group enforces and wait_end() explains; before its
  // machine is made.
  Status bound(const HelperBounds& bounds, const InstanceLimits& limits,
               std::vector<dev_t> io_devices);
  bool alive() const { return channel_.alive(); }
  // Whether it has ended, or does within so many milliseconds.
  bool ends_within(int milliseconds);

  RequestChannel& channel() override { return channel_; }
  UniqueFd take_events() override { return std::move(events_); }
  void kill() override;
  void kill_unless_ending(int milliseconds) override;
  Status wait_end() override;

 private:
  HelperProcess(jail::SpawnedProcess process, std::unique_ptr<jail::Cgroup> cgroup,
                UniqueFd control, UniqueFd events);
  // With end_mutex_ held.
  bool ends_within_locked(int milliseconds) const;
  Status describe(const jail::ProcessEnd& end) const;

  std::unique_ptr<jail::Cgroup> cgroup_;  // null where there is none, and after the end
  jail::Enclosure enclosure_;
  HelperBounds bounds_;
  InstanceLimits limits_;
  UniqueFd events_;
  RequestChannel channel_;

  std::mutex end_mutex_;  // never taken with the channel's held, for a request may wait long
  UniqueFd pidfd_;
  std::optional<Status> end_;
  std::atomic<bool> killed_{false};
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROCESS_H_
