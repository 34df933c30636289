// HelperMachine: a sandbox's machine in another process: a helper of its own, or a worker process.
//
// Thread rule: as ForkedMachine.
// Invariant: the embedder's process maps nothing of the guest's; the other gets the template's
// memory and disks as descriptors that it cannot write to. A machine whose process answers late, or
// nonsense, is killed.
#ifndef RAMET_LIB_HELPER_HELPER_MACHINE_H_
#define RAMET_LIB_HELPER_HELPER_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lib/helper/events.h"
#include "lib/helper/link.h"
#include "lib/helper/machine_home.h"
#include "lib/helper/plan_files.h"
#include "lib/helper/pool.h"
#include "lib/helper/socket_stream.h"
#include "lib/helper/worker_process.h"
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

struct HelperFork {
  PlanSource from = {};
  // Whose view from.memory is: a worker process knows a template by it.
  std::shared_ptr<const MemoryImage> image = {};
  GenerationId generation = {};
  std::function<void(std::string_view)> console = {};
  InstanceLimits limits = {};
  uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
};

class HelperMachine final : public ForkedMachine {
 public:
  // In a process of its own.
  static StatusOr<std::unique_ptr<ForkedMachine>> fork(const HelperHost& host, HelperFork what);
  // In this place of a worker process.
  static StatusOr<std::unique_ptr<ForkedMachine>> fork_in(
      std::shared_ptr<const WorkerProcess::Seat> seat, const HelperHost& host, HelperFork what);
  ~HelperMachine() override;

  const std::shared_ptr<GuestPorts>& ports() const override { return ports_; }
  Status resume() override;
  Status pause() override;
  void abandon() override;
  void stop() override;
  std::unique_ptr<Machine> take_machine() override { return nullptr; }
  std::shared_ptr<const void> place() const override { return nullptr; }
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

  HelperMachine(const HelperHost& host, std::shared_ptr<MachineHome> home,
                const InstanceLimits& limits);
  // `files`: those that say what it is a fork of.
  Status begin(const HelperFork& what, uint64_t template_id, std::vector<int> files,
               const UniqueFd& overlay);
  StatusOr<UniqueFd> make_overlay(const HelperFork& what) const;
  // What ended the helper, where it has gone.
  Status why_gone(const Status& status) const;
  // A helper that did not answer has no further say.
  Status judge(Status status);

  const HelperHost host_;
  const std::shared_ptr<MachineHome> home_;
  const std::shared_ptr<StreamGroup> streams_;
  const std::shared_ptr<GuestPorts> ports_;
  std::shared_ptr<HelperLink> link_;
  uint64_t events_id_ = 0;
  std::shared_ptr<const WorkerProcess::Learned> learned_;  // null in a helper
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_HELPER_MACHINE_H_
