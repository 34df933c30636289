#include "devices/vsock/stream.h"

#include <utility>

#include <absl/strings/str_format.h>

#include "devices/vsock/connection.h"
#include "devices/vsock/core.h"

namespace ramet {
namespace {

using vsock::Connection;
using vsock::Core;
using State = VsockTransfer::State;

Status closed_error() { return absl::FailedPreconditionError("the vsock stream is closed"); }

Status deadline_error(const char* what, uint32_t guest_port) {
  return absl::DeadlineExceededError(
      absl::StrFormat("%s: the deadline passed (guest port %d)", what, guest_port));
}

// With the core locked.
StatusOr<VsockTransfer> read_locked(Core& core, Connection& connection, std::span<std::byte> into) {
  StatusOr<VsockTransfer> result = connection.try_read(into);
  if (result.ok() && result->state == State::kMoved) {
    core.push(&connection);  // a credit update may be due
  }
  return result;
}

StatusOr<VsockTransfer> write_locked(Core& core, Connection& connection,
                                     std::span<const std::byte> from) {
  RAMET_RETURN_IF_ERROR(core.ended());
  StatusOr<VsockTransfer> result = connection.try_write(from);
  if (result.ok() && result->state == State::kMoved) {
    core.push(&connection);
  }
  return result;
}

}  // namespace

VsockStream::VsockStream(std::shared_ptr<Core> core, std::shared_ptr<Connection> connection)
    : core_(std::move(core)), connection_(std::move(connection)) {}

VsockStream::~VsockStream() {
  const Core::Lock lock = core_->lock();
  connection_->changed.listener = nullptr;
  if (!closed_) {
    connection_->drop();
    core_->push(connection_.get());
  }
}

StatusOr<size_t> VsockStream::read(std::span<std::byte> into, uint64_t deadline_ns) {
  Core::Lock lock = core_->lock();
  if (closed_) {
    return closed_error();
  }
  if (!core_->wait(lock, connection_->changed.waiters, deadline_ns,
                   [&] { return connection_->readable(); })) {
    return deadline_error("read", guest_port());
  }
  RAMET_ASSIGN_OR_RETURN(const VsockTransfer done, read_locked(*core_, *connection_, into));
  if (done.state == State::kWouldBlock) {
    return core_->ended();
  }
  return done.bytes;
}

StatusOr<size_t> VsockStream::write(std::span<const std::byte> from, uint64_t deadline_ns) {
  Core::Lock lock = core_->lock();
  if (closed_) {
    return closed_error();
  }
  if (!core_->wait(lock, connection_->changed.waiters, deadline_ns,
                   [&] { return connection_->writable(); })) {
    return deadline_error("write", guest_port());
  }
  RAMET_ASSIGN_OR_RETURN(const VsockTransfer done, write_locked(*core_, *connection_, from));
  return done.bytes;
}

StatusOr<VsockTransfer> VsockStream::try_read(std::span<std::byte> into) {
  const Core::Lock lock = core_->lock();
  if (closed_) {
    return closed_error();
  }
  return read_locked(*core_, *connection_, into);
}

StatusOr<VsockTransfer> VsockStream::try_write(std::span<const std::byte> from) {
  const Core::Lock lock = core_->lock();
  if (closed_) {
    return closed_error();
  }
  return write_locked(*core_, *connection_, from);
}

StatusOr<VsockReadiness> VsockStream::wait(bool want_write, uint64_t deadline_ns) {
  Core::Lock lock = core_->lock();
  if (closed_) {
    return closed_error();
  }
  Connection& connection = *connection_;
  const bool in_time = core_->wait(lock, connection.changed.waiters, deadline_ns, [&] {
    return connection.readable() || (want_write && connection.writable()) || connection.woken;
  });
  if (!in_time) {
    return deadline_error("wait", guest_port());
  }
  if (!core_->ended().ok() && connection.drained()) {
    return core_->ended();
  }
  connection.woken = false;
  return VsockReadiness{connection.readable(), connection.writable()};
}

void VsockStream::set_on_change(std::function<void()> listener) {
  const Core::Lock lock = core_->lock();
  connection_->changed.listener = std::move(listener);
}

void VsockStream::wake() {
  const Core::Lock lock = core_->lock();
  connection_->woken = true;
  connection_->changed.notify_all();
}

Status VsockStream::wait_connected(uint64_t deadline_ns) {
  Core::Lock lock = core_->lock();
  if (closed_) {
    return closed_error();
  }
  const Connection& connection = *connection_;
  if (!core_->wait(lock, connection_->opened, deadline_ns,
                   [&] { return connection.phase() != Connection::Phase::kConnecting; })) {
    return deadline_error("connect", guest_port());
  }
  return connection.was_open() ? Status() : connection.error();
}

Status VsockStream::shutdown_write() {
  const Core::Lock lock = core_->lock();
  if (closed_) {
    return closed_error();
  }
  RAMET_RETURN_IF_ERROR(connection_->shutdown_write());
  core_->push(connection_.get());
  return Status();
}

void VsockStream::close() {
  const Core::Lock lock = core_->lock();
  if (!std::exchange(closed_, true)) {
    connection_->close();
    core_->push(connection_.get());
  }
}

uint32_t VsockStream::host_port() const { return connection_->ports().host; }
uint32_t VsockStream::guest_port() const { return connection_->ports().guest; }

}  // namespace ramet
