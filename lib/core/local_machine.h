// LocalMachine: a sandbox's machine in this process.
//
// Thread rule: as ForkedMachine.
#ifndef RAMET_LIB_CORE_LOCAL_MACHINE_H_
#define RAMET_LIB_CORE_LOCAL_MACHINE_H_

#include <functional>
#include <memory>

#include "lib/instance/forked_machine.h"
#include "lib/instance/instance.h"
#include "vmm/memory/changed_pages.h"

namespace ramet {

class LocalMachine final : public ForkedMachine {
 public:
  // `instance` does not run yet. `place`: what it takes of its process, given back at its end.
  explicit LocalMachine(std::unique_ptr<Instance> instance,
                        std::shared_ptr<const void> place = nullptr);

  const std::shared_ptr<GuestPorts>& ports() const override { return ports_; }
  uint64_t ready_ns() const override { return 0; }
  Status resume() override { return instance_->resume(); }
  Status pause() override { return instance_->machine().pause(); }
  void abandon() override;
  void stop() override { instance_->machine().stop(); }
  std::unique_ptr<Machine> take_machine() override {
    return Instance::take_machine(std::move(instance_));
  }
  std::shared_ptr<const void> place() const override { return place_; }
  void on_end(std::function<void(const Status&)> function) override;
  InstanceMetrics metrics() override { return instance_->metrics(); }
  StatusOr<MemoryUse> memory_use() override { return instance_->memory_use(); }
  StatusOr<InstanceSnapshot> snapshot() override { return instance_->snapshot(); }
  StatusOr<WorkingSet> touched() override { return instance_->touched(); }
  StatusOr<uint64_t> changed(const MemoryImage& image, std::span<const PageRange> pages) override {
    return count_changed(instance_->machine().memory(), image, pages);
  }

 private:
  const std::shared_ptr<const void> place_;
  std::unique_ptr<Instance> instance_;
  const std::shared_ptr<GuestPorts> ports_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_LOCAL_MACHINE_H_
