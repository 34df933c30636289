// HelperMachine: a sandbox's machine in another process: a helper of its own, or a worker process.
//
// Thread rule: as ForkedMachine.
// Invariant: the embedder's process maps nothing of the guest's; the other gets the template's
// memory and disks as descriptors that it cannot write to. A machine whose process answers late, or
// nonsense, is killed.
#ifndef RAMET_LIB_HELPER_HELPER_MACHINE_H_
#define RAMET_LIB_HELPER_HELPER_MACHINE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "lib/helper/events.h"
#include "lib/helper/learned_set.h"
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
  // Keeps it known there; may be null.
  std::shared_ptr<LearnedSet> learned = {};
  GenerationId generation = {};
  std::function<void(std::string_view)> console = {};
  InstanceLimits limits = {};
  // Not 0: a conversation with this port begins and the machine runs, all by one message: the first
  // connect() to it and the first resume() find it done.
  uint32_t first_port = 0;
  bool prefetch = false;       // Fork::prefetch
  bool take_shell = false;     // Fork::take_shell
  bool refill_shells = false;  // Fork::refill_shells
  uint64_t deadline_ns = 0;    // CLOCK_MONOTONIC; 0: none
};

class HelperMachine final : public ForkedMachine {
 public:
  // In a process of its own.
  static StatusOr<std::unique_ptr<ForkedMachine>> fork(const HelperHost& host, HelperFork what);
  // In this place of a worker process.
  static StatusOr<std::unique_ptr<ForkedMachine>> fork_in(
      const std::shared_ptr<const WorkerProcess::Seat>& seat, const HelperHost& host,
      HelperFork what);
  ~HelperMachine() override;

  const std::shared_ptr<GuestPorts>& ports() const override { return ports_; }
  uint64_t ready_ns() const override { return ready_ns_; }
  Status resume() override;
  Status pause() override;
  void abandon() override;
  void stop() override;
  std::unique_ptr<Machine> take_machine() override { return nullptr; }
  std::shared_ptr<const void> place() const override { return nullptr; }
  void on_end(std::function<void(const Status&)> function) override;
  InstanceMetrics metrics() override;
  StatusOr<MemoryUse> memory_use() override;
  StatusOr<InstanceSnapshot> snapshot() override;
  StatusOr<WorkingSet> touched() override {
    return absl::UnimplementedError("which pages a machine in another process touched");
  }
  StatusOr<uint64_t> changed(const MemoryImage& /*image*/,
                             std::span<const PageRange> /*pages*/) override {
    return absl::UnimplementedError("which pages a machine in another process changed");
  }

 private:
  class Ports;

  HelperMachine(const HelperHost& host, std::shared_ptr<MachineHome> home);
  // `files`: those that say what it is a fork of.
  Status begin(const HelperFork& what, uint64_t template_id, std::vector<int> files);
  // Before begin(): what it keeps of what it is a fork of.
  Status prepare(const HelperFork& what);
  Status add_overlay();
  // Its scratch disk with the layers that are new; their bytes are copied to files that the other
  // process has no descriptor of.
  Status add_layers(std::span<const std::vector<block::BlockRun>> layers);
  StatusOr<std::shared_ptr<const block::LayerStack>> with_copy(
      const block::LayerStack& below, int overlay, std::span<const block::BlockRun> runs) const;
  StatusOr<InstanceSnapshot> try_snapshot();
  // What ended the helper, where it has gone.
  Status why_gone(const Status& status) const;
  // A helper that did not answer has no further say.
  Status judge(Status status);

  const HelperHost host_;
  const std::shared_ptr<MachineHome> home_;
  const std::shared_ptr<StreamGroup> streams_;
  const std::shared_ptr<Ports> own_ports_;
  const std::shared_ptr<GuestPorts> ports_;  // the same
  std::shared_ptr<HelperLink> link_;
  uint64_t ready_ns_ = 0;
  bool runs_ahead_ = false;  // since begin(), until resume() is asked for it
  // What it was forked with, for what it says in a snapshot.
  std::vector<MemoryRegion> regions_;
  size_t vcpus_ = 0;
  std::shared_ptr<const block::LayerStack> scratch_;  // as of the last snapshot
  // The files for what the guest writes to it: those of layers to come, in that order, and one more
  // where it is known that it has not begun to be used up.
  std::deque<UniqueFd> overlays_;
  uint32_t known_layers_ = 0;  // those in scratch_ above its template's
  bool needs_overlay_ = true;  // at the next snapshot
  uint64_t events_id_ = 0;
  std::shared_ptr<const WorkerProcess::Learned> learned_;  // null in a helper
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_HELPER_MACHINE_H_
