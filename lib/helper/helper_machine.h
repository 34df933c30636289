// HelperMachine: a sandbox's machine in a helper process.
//
// Thread rule: as ForkedMachine.
// Invariant: the embedder's process maps nothing of the guest's; the helper gets the template's
// memory and disks as descriptors that it cannot write to. A helper that answers late, or nonsense,
// is killed.
#ifndef RAMET_LIB_HELPER_HELPER_MACHINE_H_
#define RAMET_LIB_HELPER_HELPER_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "lib/helper/events.h"
#include "lib/helper/link.h"
#include "lib/helper/pool.h"
#include "lib/helper/process.h"
#include "lib/helper/socket_stream.h"
#include "lib/instance/forked_machine.h"
#include "lib/instance/instance_state.h"
#include "vmm/base/log_sink.h"

namespace ramet::helper {

// What machines in helpers share; outlives them.
struct HelperHost {
  HelperPool* pool = nullptr;
  HelperEvents* events = nullptr;
  WorkerPool* calls = nullptr;   // for a console's listener
  WorkerPool* reaper = nullptr;  // for what waits for a process's end
  LogSink* log = nullptr;
  std::function<StatusOr<UniqueFd>(uint64_t size)> make_overlay_file = {};
  uint32_t host_port_offset = 0;
};

// What it is a fork of.
struct HelperFork {
  const InstanceState* state = nullptr;
  MemoryView memory = {};
  const Disks* disks = nullptr;
  GenerationId generation = {};
  std::function<void(std::string_view)> console = {};
  InstanceLimits limits = {};
  uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
};

class HelperMachine final : public ForkedMachine {
 public:
  static StatusOr<std::unique_ptr<ForkedMachine>> fork(const HelperHost& host, HelperFork what);
  ~HelperMachine() override;

  const std::shared_ptr<GuestPorts>& ports() const override { return ports_; }
  Status resume() override;
  Status pause() override;
  void abandon() override;
  void stop() override;
  std::unique_ptr<Machine> take_machine() override { return nullptr; }
  void on_end(std::function<void(const Status&)> function) override;
  InstanceMetrics metrics() override;
  StatusOr<MemoryUse> memory_use() override;
  StatusOr<InstanceSnapshot> snapshot() override {
    return absl::UnimplementedError("a snapshot of a machine in another process");
  }
  bool can_snapshot() const override { return false; }
  StatusOr<WorkingSet> touched() override {
    return absl::UnimplementedError("which pages a machine in another process touched");
  }
  StatusOr<uint64_t> changed(const MemoryImage& /*image*/,
                             std::span<const PageRange> /*pages*/) override {
    return absl::UnimplementedError("which pages a machine in another process changed");
  }

 private:
  class Ports;

  HelperMachine(const HelperHost& host, std::shared_ptr<HelperProcess> process,
                const InstanceLimits& limits);
  Status begin(HelperFork what);
  Status bound(const HelperFork& what, std::span<const int> disks, int overlay);
  // What ended the helper, where it has gone.
  Status why_gone(const Status& status) const;
  // A helper that did not answer has no further say.
  Status judge(Status status);

  const HelperHost host_;
  const std::shared_ptr<HelperProcess> process_;
  const std::shared_ptr<StreamGroup> streams_;
  const std::shared_ptr<GuestPorts> ports_;
  std::shared_ptr<HelperLink> link_;
  uint64_t events_id_ = 0;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_HELPER_MACHINE_H_
