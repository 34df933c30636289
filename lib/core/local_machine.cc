#include "lib/core/local_machine.h"

#include <utility>

#include "lib/core/vsock_byte_stream.h"
#include "lib/instance/reasons.h"

namespace ramet {
namespace {

class LocalPorts final : public GuestPorts {
 public:
  explicit LocalPorts(VsockHost vsock) : vsock_(std::move(vsock)) {}

  StatusOr<std::unique_ptr<ByteStream>> connect(uint32_t guest_port) override {
    auto stream = vsock_.start_connect(guest_port);
    RAMET_RETURN_IF_ERROR(as_connection_limit(stream.status(), vsock_.max_connections()));
    return std::make_unique<VsockByteStream>(*std::move(stream));
  }
  void shutdown_all(const Status& reason) override { vsock_.shutdown_all(reason); }
  bool idle_is_cheap() const override { return true; }

 private:
  VsockHost vsock_;
};

}  // namespace

LocalMachine::LocalMachine(std::unique_ptr<Instance> instance, std::shared_ptr<const void> place)
    : place_(std::move(place)),
      instance_(std::move(instance)),
      ports_(std::make_shared<LocalPorts>(instance_->vsock())) {}

void LocalMachine::abandon() { instance_->machine().abandon({EndReason::kStopped, "killed"}); }

void LocalMachine::on_end(std::function<void(const Status&)> function) {
  instance_->on_end(std::move(function));
}

}  // namespace ramet
