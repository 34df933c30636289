#include "devices/vsock/core.h"

#include <chrono>
#include <limits>

namespace ramet::vsock {

void Core::end(const Status& reason) {
  if (!ended_.ok()) {
    return;
  }
  ended_ = reason.ok() ? absl::CancelledError("the machine ended") : reason;
  muxer_.end_all(ended_);
}

void Core::push(Connection* connection) {
  if (!ended_.ok()) {
    return;
  }
  muxer_.settle(connection);
  if (port_ != nullptr && muxer_.has_output()) {
    port_->pump();
  }
}

bool Core::wait_once(Lock& lock, std::condition_variable& changed, uint64_t deadline_ns) {
  // steady_clock is CLOCK_MONOTONIC; what does not fit its 63 bits is no deadline.
  if (deadline_ns == 0 || deadline_ns > uint64_t{std::numeric_limits<int64_t>::max()}) {
    changed.wait(lock);
    return true;
  }
  const std::chrono::steady_clock::time_point deadline{
      std::chrono::nanoseconds(static_cast<int64_t>(deadline_ns))};
  return changed.wait_until(lock, deadline) == std::cv_status::no_timeout;
}

}  // namespace ramet::vsock
