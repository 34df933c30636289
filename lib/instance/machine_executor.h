// MachineExecutor: an engine's workers as one machine's devices see them.
//
// Thread rule: as virtio::Executor.
// Invariant: what a worker does in a job of this machine is on this machine's account: a system
// call that it is refused then ends the machine.
#ifndef RAMET_LIB_INSTANCE_MACHINE_EXECUTOR_H_
#define RAMET_LIB_INSTANCE_MACHINE_EXECUTOR_H_

#include <functional>
#include <memory>

#include "devices/virtio/executor.h"
#include "vmm/io/worker_pool.h"

namespace ramet {

class MachineExecutor : public virtio::Executor {
 public:
  MachineExecutor(WorkerPool* workers, std::shared_ptr<jail::Tenant> tenant)
      : workers_(*workers), tenant_(std::move(tenant)) {}

  void post(std::function<void()> job) override { workers_.post(std::move(job), tenant_); }
  void post_at(uint64_t due_ns, std::function<void()> job) override {
    workers_.post_at(due_ns, std::move(job), tenant_);
  }

 private:
  WorkerPool& workers_;
  const std::shared_ptr<jail::Tenant> tenant_;
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_MACHINE_EXECUTOR_H_
