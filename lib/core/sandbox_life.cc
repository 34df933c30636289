#include "lib/core/sandbox_life.h"

#include <chrono>
#include <string_view>

#include <absl/strings/str_format.h>

#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"

namespace ramet {
namespace {

const char* name_of(SandboxState state) {
  switch (state) {
    case SandboxState::kRunning:
      return "running";
    case SandboxState::kPaused:
      return "paused";
    case SandboxState::kPoisoned:
      return "poisoned";
    case SandboxState::kGone:
      break;
  }
  return "gone";
}

}  // namespace

SandboxLife::SandboxLife(Engine* engine, std::unique_ptr<ForkedMachine> machine, SandboxTimes times)
    : ports_(machine->ports()), engine_(engine), machine_(std::move(machine)), times_(times) {}

std::shared_ptr<SandboxLife> SandboxLife::create(Engine* engine,
                                                 std::unique_ptr<ForkedMachine> machine,
                                                 SandboxTimes times) {
  std::shared_ptr<SandboxLife> self(new SandboxLife(engine, std::move(machine), times));
  // Weak, or the machine's listener would keep alive what keeps the machine alive.
  self->machine_->on_end([weak = std::weak_ptr(self)](const Status& reason) {
    const auto life = weak.lock();
    if (life == nullptr) {
      return;
    }
    // A thread that asks for what it never needs runs somebody else's code.
    if (reason_of(reason) == reason::kCallRefused) {
      life->poison(reason);
    } else {
      life->finish(reason);
    }
  });
  return self;
}

void SandboxLife::detach() {
  finish(with_reason(absl::CancelledError("the sandbox was killed"), reason::kKilled));
  const std::lock_guard lock(mutex_);
  engine_ = nullptr;
}

Status SandboxLife::start() {
  RAMET_ASSIGN_OR_RETURN(const auto machine, controllable("start"));
  return machine->resume();
}

StatusOr<std::shared_ptr<ForkedMachine>> SandboxLife::controllable(const char* what) const {
  const std::lock_guard lock(mutex_);
  if (state_ != SandboxState::kRunning && state_ != SandboxState::kPaused) {
    return not_legal_locked(what);
  }
  return machine_;
}

Status SandboxLife::pause() {
  const std::lock_guard control(control_mutex_);
  RAMET_ASSIGN_OR_RETURN(const auto machine, controllable("pause"));
  RAMET_RETURN_IF_ERROR(machine->pause());
  const std::lock_guard lock(mutex_);
  if (state_ == SandboxState::kRunning) {
    state_ = SandboxState::kPaused;
  }
  return end_reason_;
}

Status SandboxLife::resume() {
  const std::lock_guard control(control_mutex_);
  RAMET_ASSIGN_OR_RETURN(const auto machine, controllable("resume"));
  RAMET_RETURN_IF_ERROR(machine->resume());
  const std::lock_guard lock(mutex_);
  if (state_ == SandboxState::kPaused) {
    state_ = SandboxState::kRunning;
  }
  return end_reason_;
}

void SandboxLife::poison(const Status& reason) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == SandboxState::kPoisoned || state_ == SandboxState::kGone) {
      return;
    }
    state_ = SandboxState::kPoisoned;
    end_reason_ = reason;
    machine_->abandon();
  }
  ports_->shutdown_all(reason);
}

void SandboxLife::finish(const Status& reason) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == SandboxState::kGone) {
      return;
    }
    state_ = SandboxState::kGone;
    if (end_reason_.ok()) {
      end_reason_ = reason;
    }
    reap_locked();
  }
  ports_->shutdown_all(reason);
}

void SandboxLife::reap_locked() {
  times_.kill_called = monotonic_ns();
  last_metrics_ = machine_->metrics();
  times_.first_exit = last_metrics_.first_exit_ns;
  machine_->abandon();
  if (engine_ == nullptr) {
    return;
  }
  engine_->reap([machine = std::move(machine_), self = shared_from_this()]() mutable {
    // Somebody may still hold it for a moment, in pause(): what counts is that its threads are
    // gone.
    machine->stop();
    machine.reset();
    const std::lock_guard lock(self->mutex_);
    self->times_.teardown_done = monotonic_ns();
    self->torn_down_.notify_all();
  });
}

Status SandboxLife::wait_gone(uint64_t deadline_ns) {
  std::unique_lock lock(mutex_);
  if (state_ != SandboxState::kGone) {
    return not_legal_locked("wait for the teardown");
  }
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  if (!torn_down_.wait_until(lock, deadline, [&] { return times_.teardown_done != 0; })) {
    return absl::DeadlineExceededError("the teardown was not done at the deadline");
  }
  return Status();
}

Status SandboxLife::not_legal_locked(const char* what) const {
  if (!end_reason_.ok()) {
    return annotate(end_reason_, absl::StrFormat("%s: the sandbox is %s", what, name_of(state_)));
  }
  return absl::FailedPreconditionError(
      absl::StrFormat("%s: the sandbox is %s", what, name_of(state_)));
}

Status SandboxLife::check_running(const char* what) const {
  const std::lock_guard lock(mutex_);
  return state_ == SandboxState::kRunning ? Status() : not_legal_locked(what);
}

SandboxState SandboxLife::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

Status SandboxLife::end_reason() const {
  const std::lock_guard lock(mutex_);
  return end_reason_;
}

SandboxTimes SandboxLife::times() const {
  const std::lock_guard lock(mutex_);
  SandboxTimes times = times_;
  if (machine_ != nullptr) {
    times.first_exit = machine_->metrics().first_exit_ns;
  }
  return times;
}

InstanceMetrics SandboxLife::metrics() const {
  const std::lock_guard lock(mutex_);
  return machine_ != nullptr ? machine_->metrics() : last_metrics_;
}

void SandboxLife::mark(uint64_t SandboxTimes::*moment) {
  const std::lock_guard lock(mutex_);
  if (times_.*moment == 0) {
    times_.*moment = monotonic_ns();
  }
}

}  // namespace ramet
