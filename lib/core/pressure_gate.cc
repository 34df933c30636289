#include "lib/core/pressure_gate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "lib/instance/reasons.h"

namespace ramet {
namespace {

constexpr uint64_t kRetryWantMs = 1'000;

}  // namespace

PressureGate::PressureGate(Options options) : options_(std::move(options)) {}

void PressureGate::refresh(uint64_t max_age_ns) {
  const uint64_t now = monotonic_ns();
  if (readings_ != 0 && now - read_at_ns_ < max_age_ns) {
    return;
  }
  shortage_ = shortage_of(options_.source ? options_.source() : host_.read(), options_.limits);
  read_at_ns_ = now;
  ++readings_;
}

Status PressureGate::enter(uint64_t deadline_ns) {
  std::unique_lock lock(mutex_);
  refresh(kFreshNs);
  if (tickets_.empty() && !shortage_) {
    return Status();
  }
  return wait(&lock, deadline_ns != 0 ? deadline_ns : monotonic_ns() + kMaxWaitNs);
}

bool PressureGate::may_pass(std::list<uint64_t>::iterator ticket) {
  if (ticket != tickets_.begin()) {
    return false;
  }
  refresh(kFreshNs);
  return !shortage_ && used_reading_ != readings_;
}

Status PressureGate::wait(std::unique_lock<std::mutex>* lock, uint64_t deadline_ns) {
  const auto ticket = tickets_.insert(tickets_.end(), next_ticket_++);
  const std::string why = shortage_ ? shortage_->what : "";
  lock->unlock();
  if (options_.tell && !why.empty()) {
    options_.tell(why);
  }
  if (options_.relieve) {
    options_.relieve();
  }
  lock->lock();
  Status result;
  while (!may_pass(ticket)) {
    const uint64_t now = monotonic_ns();
    if (now >= deadline_ns) {
      result = shortage_ ? busy_status(shortage_->what, shortage_->retry_after_ms)
                         : busy_status("other forks wait for memory before this one", kRetryWantMs);
      break;
    }
    const uint64_t until_ns = std::min(deadline_ns, now + kFreshNs);
    const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(until_ns)};
    changed_.wait_until(*lock, until);
  }
  if (result.ok()) {
    used_reading_ = readings_;
  }
  tickets_.erase(ticket);
  changed_.notify_all();
  return result;
}

bool PressureGate::is_short() {
  const std::lock_guard lock(mutex_);
  refresh(kFreshNs);
  return !tickets_.empty() || shortage_.has_value();
}

size_t PressureGate::waiting() const {
  const std::lock_guard lock(mutex_);
  return tickets_.size();
}

bool is_want(const Status& status) {
  return (absl::IsResourceExhausted(status) || absl::IsUnavailable(status)) &&
         reason_of(status).empty();
}

Status as_busy(const Status& status) {
  const std::string message(status.message());
  return is_want(status) ? busy_status(message, kRetryWantMs) : status;
}

}  // namespace ramet
