// Engine: what the machines of one process share: KVM, the jail that makes their threads, workers
// for what may block, the reaper, and two threads without a filter: one for the embedder's own code
// (console, log), one that opens files for workers, which may not.
//
// Thread rule: every method from any thread.
// Invariant: it outlives every machine made with it, because each holder of a machine holds the
// engine too; jobs of the reaper hold machines but never the engine, so that the engine is never
// destroyed on its own thread.
#ifndef RAMET_LIB_CORE_ENGINE_H_
#define RAMET_LIB_CORE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "lib/core/machine_places.h"
#include "lib/core/pressure_gate.h"
#include "lib/core/template_data.h"
#include "lib/helper/helper_machine.h"
#include "lib/helper/workers.h"
#include "lib/instance/instance.h"
#include "lib/instance/limit_watch.h"
#include "lib/instance/shell_pool.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/status.h"
#include "vmm/io/worker_pool.h"
#include "vmm/jail/jail.h"
#include "vmm/kvm/kvm.h"

namespace ramet {

struct EngineConfig {
  std::string kvm_device = Kvm::kDefaultPath;
  uint32_t workers = 0;        // 0: the number of cores, at most 2
  LogSink::Function log = {};  // on the thread for the embedder's code
  std::string scratch_directory = "/var/tmp";
  jail::Mode confinement = jail::Mode::kEnforce;
  bool confinement_required = false;  // and the whole enclosure of helper processes
  size_t idle_threads = 32;           // of each kind, kept for the next machine
  size_t spare_threads = 2;           // for vCPUs, made ahead of need; at most idle_threads
  uint32_t ready_shells = 2;          // machines of each template that stand ready in a process
  uint32_t max_shells = 64;           // of all templates and processes
  uint32_t fork_threads = 0;          // of forks many at a time; 0: twice the number of cores
  uint32_t ready_helpers = 2;         // processes that stand ready once the first was asked for
  std::string helper_program = {};    // empty: the one that the library carries
  std::string helper_cgroup = {};     // where their control groups are made; empty: nowhere
  uint32_t worker_processes = 0;      // that machines go to once this process has its own; 0: none
  uint32_t machines_here = 128;       // that this process has then
  PressureLimits pressure = {};
  PressureGate::Source pressure_source = {};  // empty: the host's
};

class Engine {
 public:
  static StatusOr<std::shared_ptr<Engine>> create(EngineConfig config);
  ~Engine();

  const std::shared_ptr<const Kvm>& kvm() const { return kvm_; }
  // What one more instance takes from this engine.
  InstanceHost instance_host();
  // The same for one that runs in a helper process.
  StatusOr<helper::HelperHost> helper_host();
  // A place for one more machine in this process; null where it has to go to a worker process.
  std::shared_ptr<const MachinePlaces::Place> place_here() { return places_.take(); }
  // Where it goes then. Errors as Workers::choose().
  struct WorkerPlace {
    helper::HelperHost host;
    std::shared_ptr<const helper::WorkerProcess::Seat> seat;
  };
  StatusOr<WorkerPlace> worker_place(uint64_t deadline_ns);
  // What helper processes stand behind on this host; starts one where none was.
  StatusOr<jail::Enclosure> enclosure(uint64_t deadline_ns);
  // Of their control groups; nothing where EngineConfig::helper_cgroup is empty.
  const jail::ControllersGiven* controllers() const {
    return helper_pool_ == nullptr ? nullptr : helper_pool_->controllers();
  }
  jail::Jail& jail() { return *jail_; }
  // Calls that threads of this process and of worker processes were refused; with kLog, let
  // through.
  uint64_t refused_calls() const { return jail_->refused() + refused_elsewhere_; }
  // For what may block on a machine's behalf; behind the workers' filter.
  WorkerPool* workers() { return pool_.get(); }
  // For the embedder's own code.
  WorkerPool* embedder_calls() { return calls_.get(); }
  LogSink* log() { return &log_; }
  const std::string& scratch_directory() const { return config_.scratch_directory; }

  // For forks that are asked for many at a time; without a filter. Starts them where they are not.
  StatusOr<WorkerPool*> fork_threads();
  // Machines of this template that are made ahead of need in this process.
  std::shared_ptr<ShellPool> make_shells(std::shared_ptr<const TemplateData> from);

  // Machines that wait for their teardown, beyond which forks wait.
  static constexpr uint64_t kMaxReaping = 64;
  // Before a fork: waits while the host is short of memory (PressureGate::enter()), or the reaper
  // is behind. Errors as PressureGate::enter().
  Status admit(uint64_t deadline_ns);
  PressureGate& gate() { return *gate_; }
  // Gives back what the engine can do without: shells, threads that are kept for later, and what is
  // still being torn down.
  void relieve();

  // A file without a name for what a machine writes to its disk, made in scratch_directory(), or in
  // memory where that is empty. Blocks.
  StatusOr<UniqueFd> make_overlay_file(uint64_t size);

  // Runs `teardown` on the reaper's thread.
  void reap(std::function<void()> teardown) { reaper_->post(std::move(teardown)); }
  // Waits until everything given to reap() is done. DeadlineExceeded at `deadline_ns`
  // (CLOCK_MONOTONIC).
  Status drain(uint64_t deadline_ns) { return reaper_->drain(deadline_ns); }

  // FailedPrecondition with reason kvm_unfit on a software KVM.
  Status check_runs_linux() const;

  // FailedPrecondition in a child of the process's own fork(): guest memory and threads did not
  // come along.
  Status check_process() const;

 private:
  // Log lines that wait for the embedder; further ones are dropped.
  static constexpr uint32_t kMaxLogWaiting = 1000;

  explicit Engine(EngineConfig config);
  Status start_threads(uint32_t workers);
  Status start_helpers();
  Status start_workers();
  Status start_events_locked();
  std::string_view worker_role() const;
  // Of all that there may be made ahead, in each worker process; the rest in this one.
  uint32_t shells_in_worker() const;
  // What a machine in another process takes from this engine.
  helper::HelperHost machine_host_apart();
  uint32_t next_port_offset();
  void tell_log(LogLevel level, std::string_view line);
  void tell_refused(const jail::RefusedCall& call, bool allowed);

  const EngineConfig config_;
  const int owner_pid_;
  LogSink log_;
  std::shared_ptr<const Kvm> kvm_;
  MachinePlaces places_;
  std::atomic<uint32_t> next_port_offset_{0};
  std::atomic<uint32_t> log_waiting_{0};
  std::atomic<uint64_t> refused_elsewhere_{0};  // calls of threads of worker processes
  std::mutex told_mutex_;
  bool closing_ = false;  // with told_mutex_: the jail may tell of a call while the pools go
  std::unique_ptr<jail::Jail> jail_;
  std::unique_ptr<PressureGate> gate_;
  std::unique_ptr<LimitWatch> watch_;  // before the pools: teardowns end what it watches
  std::unique_ptr<WorkerPool> calls_;
  std::unique_ptr<WorkerPool> opener_;
  std::unique_ptr<WorkerPool> pool_;
  std::mutex helpers_mutex_;
  std::unique_ptr<helper::HelperPool> helper_pool_;
  std::unique_ptr<helper::HelperEvents> helper_events_;
  std::unique_ptr<helper::Workers> workers_;  // null where there are none; uses the events
  std::unique_ptr<WorkerPool> reaper_;        // after the others: its jobs may use them all
  std::unique_ptr<Shells> shells_;
  std::unique_ptr<WorkerPool> shell_maker_;  // its jobs use the reaper
  std::mutex fork_threads_mutex_;
  std::unique_ptr<WorkerPool> fork_threads_;  // last: its jobs use all of the above
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_ENGINE_H_
