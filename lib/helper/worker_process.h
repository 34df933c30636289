// WorkerProcess: a process that many machines live in, as the embedder's process holds it.
//
// Thread rule: every method from any thread.
// Invariant: whoever holds it keeps the process; its machines hold it. One that died is told by
// each of its machines, and takes no further one.
#ifndef RAMET_LIB_HELPER_WORKER_PROCESS_H_
#define RAMET_LIB_HELPER_WORKER_PROCESS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "lib/helper/events.h"
#include "lib/helper/machine_home.h"
#include "lib/helper/plan_files.h"
#include "lib/helper/process.h"
#include "lib/helper/recently_used.h"
#include "lib/helper/wire/messages.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/status.h"
#include "vmm/memory/memory_image.h"

namespace ramet::helper {

class WorkerProcess : public std::enable_shared_from_this<WorkerProcess> {
 public:
  // A template that the process knows for as long as this lives.
  class Learned;

  // What its process has in common with others; all of it outlives it.
  struct Parts {
    HelperEvents* events = nullptr;
    LogSink* log = nullptr;
    std::atomic<uint64_t>* refused = nullptr;  // calls of theirs, to which it adds
    KeepShells shells = {};                    // in each
  };
  static StatusOr<std::shared_ptr<WorkerProcess>> create(std::unique_ptr<HelperProcess> process,
                                                         const Parts& parts);
  ~WorkerProcess();

  // `image` is the memory of `source`, by which a template is known: it is no other template's.
  StatusOr<std::shared_ptr<const Learned>> learn(std::shared_ptr<const MemoryImage> image,
                                                 const PlanSource& source, uint64_t deadline_ns);
  static uint64_t id_of(const Learned& learned);
  // Whether the process lives.
  static bool is_known(const Learned& learned);
  // Of the templates without a machine here it knows so many: each holds some 3 to 12 of its 4,096
  // descriptors, for memory, plan and disk layers.
  static constexpr size_t kMostKept = 64;
  using Keeps = RecentlyUsed<const Learned>;
  static std::shared_ptr<const Keeps::Kept> keep(std::shared_ptr<const Learned> learned);

  // A place in the process, which counts from now on until it is given back by destruction.
  class Seat;
  std::shared_ptr<const Seat> reserve();
  static WorkerProcess& of(const Seat& seat);
  // Room for one more machine, which is made by a Fork on its own channel.
  StatusOr<std::shared_ptr<MachineHome>> open_machine(std::shared_ptr<const Seat> seat,
                                                      uint64_t deadline_ns);
  // Places that are taken: by machines that live in it, are being made, or are still being torn
  // down.
  size_t seats() const { return seats_.load(std::memory_order_relaxed); }

  // Has it give up what it can do without. Blocks for a moment at most.
  void relieve();

  bool alive() const { return process_->channel().alive(); }
  void kill() { process_->kill(); }
  // Why it died, where it did within a moment.
  Status why_gone();

 private:
  class Machine;
  // With learn_mutex_ held.
  Status teach(uint64_t id, const PlanSource& source, uint64_t deadline_ns);

  WorkerProcess(std::unique_ptr<HelperProcess> process, HelperEvents* events)
      : process_(std::move(process)), events_(*events) {}

  const std::unique_ptr<HelperProcess> process_;
  HelperEvents& events_;
  uint64_t events_id_ = 0;
  std::atomic<size_t> seats_{0};
  std::mutex learn_mutex_;
  uint64_t last_id_ = 0;
  std::map<const MemoryImage*, std::weak_ptr<const Learned>> learned_;
  Keeps keeps_{kMostKept};
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WORKER_PROCESS_H_
