// Engine: what the machines of one process share: KVM, workers for what may block, the reaper.
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
#include <string>

#include "devices/virtio/executor.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/status.h"
#include "vmm/io/worker_pool.h"
#include "vmm/kvm/kvm.h"

namespace ramet {

struct EngineConfig {
  std::string kvm_device = Kvm::kDefaultPath;
  uint32_t workers = 0;  // 0: the number of cores, at most 2
  LogSink::Function log = {};
  std::string scratch_directory = "/var/tmp";
};

class Engine {
 public:
  static StatusOr<std::shared_ptr<Engine>> create(EngineConfig config);

  const std::shared_ptr<const Kvm>& kvm() const { return kvm_; }
  virtio::Executor* executor() { return &executor_; }
  LogSink* log() { return &log_; }
  const std::string& scratch_directory() const { return config_.scratch_directory; }

  // Runs `teardown` on the reaper's thread.
  void reap(std::function<void()> teardown) { reaper_->post(std::move(teardown)); }
  // Waits until everything given to reap() is done. DeadlineExceeded at `deadline_ns`
  // (CLOCK_MONOTONIC).
  Status drain(uint64_t deadline_ns) { return reaper_->drain(deadline_ns); }

  // A different number for each machine: where its vsock's host ports begin.
  uint32_t next_port_offset();

  // FailedPrecondition with reason kvm_unfit on a software KVM.
  Status check_runs_linux() const;

  // FailedPrecondition in a child of the process's own fork(): guest memory and threads did not
  // come along.
  Status check_process() const;

 private:
  class PoolExecutor : public virtio::Executor {
   public:
    void post(std::function<void()> job) override { pool->post(std::move(job)); }
    WorkerPool* pool = nullptr;
  };

  explicit Engine(EngineConfig config);

  const EngineConfig config_;
  const int owner_pid_;
  LogSink log_;
  std::shared_ptr<const Kvm> kvm_;
  std::atomic<uint32_t> next_port_offset_{0};
  PoolExecutor executor_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<WorkerPool> reaper_;  // last: its jobs may use the pool
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_ENGINE_H_
