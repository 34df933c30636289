#include "devices/vsock/host.h"

#include <utility>

#include <absl/strings/str_format.h>

#include "devices/vsock/core.h"

namespace ramet {

using vsock::Core;

StatusOr<std::unique_ptr<VsockStream>> VsockHost::start_connect(uint32_t guest_port) {
  std::shared_ptr<vsock::Connection> connection;
  {
    const Core::Lock lock = core_->lock();
    RAMET_RETURN_IF_ERROR(core_->ended());
    RAMET_ASSIGN_OR_RETURN(connection, core_->muxer().connect(guest_port));
    core_->push(connection.get());
  }
  return std::make_unique<VsockStream>(core_, std::move(connection));
}

StatusOr<std::unique_ptr<VsockStream>> VsockHost::connect(uint32_t guest_port,
                                                          uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(std::unique_ptr<VsockStream> stream, start_connect(guest_port));
  if (Status status = stream->wait_connected(deadline_ns); !status.ok()) {
    return annotate(status, "connect to guest port %d", guest_port);
  }
  return stream;
}

Status VsockHost::listen(uint32_t host_port) {
  const Core::Lock lock = core_->lock();
  RAMET_RETURN_IF_ERROR(core_->ended());
  return core_->muxer().listen(host_port);
}

StatusOr<std::unique_ptr<VsockStream>> VsockHost::accept(uint32_t host_port, uint64_t deadline_ns) {
  std::shared_ptr<vsock::Connection> connection;
  {
    Core::Lock lock = core_->lock();
    vsock::Listener* const listener = core_->muxer().find_listener(host_port);
    if (listener == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrFormat("accept on vsock port %d: nobody called listen()", host_port));
    }
    if (!core_->wait(lock, listener->changed, deadline_ns,
                     [&] { return !listener->backlog.empty(); })) {
      return absl::DeadlineExceededError(absl::StrFormat(
          "accept on vsock port %d: the guest did not connect by the deadline", host_port));
    }
    RAMET_RETURN_IF_ERROR(core_->ended());
    connection = std::move(listener->backlog.front());
    listener->backlog.pop_front();
  }
  return std::make_unique<VsockStream>(core_, std::move(connection));
}

void VsockHost::shutdown_all(const Status& reason) {
  const Core::Lock lock = core_->lock();
  core_->end(reason);
}

VsockMetrics VsockHost::metrics() const {
  const Core::Lock lock = core_->lock();
  return core_->muxer().metrics();
}

size_t VsockHost::max_connections() const {
  const Core::Lock lock = core_->lock();
  return core_->muxer().max_connections();
}

}  // namespace ramet
