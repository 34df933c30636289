// LocalMachine: a sandbox's machine in this process.
//
// Thread rule: as ForkedMachine.
#ifndef RAMET_LIB_CORE_LOCAL_MACHINE_H_
#define RAMET_LIB_CORE_LOCAL_MACHINE_H_

#include <functional>
#include <memory>

#include "lib/instance/forked_machine.h"
#include "lib/instance/instance.h"

namespace ramet {

class LocalMachine final : public ForkedMachine {
 public:
  // `instance` does not run yet.
  explicit LocalMachine(std::unique_ptr<Instance> instance);

  const std::shared_ptr<GuestPorts>& ports() const override { return ports_; }
  Status resume() override { return instance_->resume(); }
  Status pause() override { return instance_->machine().pause(); }
  void abandon() override;
  void stop() override { instance_->machine().stop(); }
  void on_end(std::function<void(const Status&)> function) override;
  InstanceMetrics metrics() override { return instance_->metrics(); }

 private:
  const std::unique_ptr<Instance> instance_;
  const std::shared_ptr<GuestPorts> ports_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_LOCAL_MACHINE_H_
