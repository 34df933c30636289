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

Status was_reset() {
  return with_reason(absl::CancelledError("the sandbox was reset"), reason::kReset);
}

}  // namespace

SandboxLife::SandboxLife(Engine* engine, std::unique_ptr<ForkedMachine> machine, SandboxTimes times)
    : engine_(engine), ports_(machine->ports()), machine_(std::move(machine)), times_(times) {}

std::shared_ptr<SandboxLife> SandboxLife::create(Engine* engine,
                                                 std::unique_ptr<ForkedMachine> machine,
                                                 SandboxTimes times) {
  std::shared_ptr<SandboxLife> self(new SandboxLife(engine, std::move(machine), times));
  self->listen(self->machine_.get(), self->run_);
  return self;
}

void SandboxLife::listen(ForkedMachine* machine, uint64_t run) {
  // Weak, or the machine's listener would keep alive what keeps the machine alive.
  machine->on_end([weak = weak_from_this(), run](const Status& reason) {
    const auto life = weak.lock();
    if (life == nullptr) {
      return;
    }
    // A thread that asks for what it never needs runs somebody else's code.
    if (reason_of(reason) == reason::kCallRefused) {
      life->poison(run, reason);
    } else {
      life->finish(run, reason);
    }
  });
}

void SandboxLife::detach() {
  finish(with_reason(absl::CancelledError("the sandbox was killed"), reason::kKilled));
  const std::lock_guard lock(mutex_);
  engine_ = nullptr;
}

Status SandboxLife::start() {
  std::unique_lock lock(mutex_);
  if (machine_ == nullptr || !end_reason_.ok()) {
    return not_legal_locked("start");
  }
  const auto machine = machine_;
  lock.unlock();
  return machine->resume();
}

StatusOr<std::shared_ptr<ForkedMachine>> SandboxLife::controllable(const char* what) const {
  const std::lock_guard lock(mutex_);
  if (in_reset_ || (state_ != SandboxState::kRunning && state_ != SandboxState::kPaused)) {
    return not_legal_locked(what);
  }
  return machine_;
}

StatusOr<std::shared_ptr<ForkedMachine>> SandboxLife::begin_reset() {
  const std::lock_guard control(control_mutex_);
  std::unique_lock lock(mutex_);
  if (in_reset_ || state_ == SandboxState::kGone) {
    return not_legal_locked("reset");
  }
  in_reset_ = true;
  ++run_;
  state_ = SandboxState::kPaused;
  end_reason_ = Status();
  last_metrics_ = machine_->metrics();
  const auto ports = ports_;
  auto machine = std::move(machine_);
  lock.unlock();
  ports->shutdown_all(was_reset());
  return machine;
}

Status SandboxLife::continue_reset(std::unique_ptr<ForkedMachine> machine, SandboxTimes times) {
  const std::shared_ptr<ForkedMachine> next = std::move(machine);
  std::unique_lock lock(mutex_);
  machine_ = next;
  ports_ = next->ports();
  if (state_ == SandboxState::kGone) {
    reap_locked();
    return end_reason_;
  }
  times_ = times;
  const uint64_t run = run_;
  lock.unlock();
  listen(next.get(), run);
  return Status();
}

Status SandboxLife::end_reset(const Status& status) {
  if (!status.ok() && state() != SandboxState::kPoisoned) {
    finish(status);
  }
  const std::lock_guard lock(mutex_);
  in_reset_ = false;
  if (state_ == SandboxState::kPaused) {
    state_ = SandboxState::kRunning;
  } else if (state_ == SandboxState::kGone && !reaped_) {
    note_torn_down_locked();
  }
  return status.ok() ? end_reason_ : status;
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

void SandboxLife::poison(uint64_t run, const Status& reason) {
  std::unique_lock lock(mutex_);
  if (run != run_ || state_ == SandboxState::kPoisoned || state_ == SandboxState::kGone) {
    return;
  }
  state_ = SandboxState::kPoisoned;
  end_reason_ = reason;
  machine_->abandon();
  const auto ports = ports_;
  lock.unlock();
  ports->shutdown_all(reason);
}

void SandboxLife::finish(std::optional<uint64_t> run, const Status& reason) {
  std::unique_lock lock(mutex_);
  if ((run && *run != run_) || state_ == SandboxState::kGone) {
    return;
  }
  state_ = SandboxState::kGone;
  if (end_reason_.ok()) {
    end_reason_ = reason;
  }
  times_.kill_called = monotonic_ns();
  times_.teardown_done = 0;
  if (machine_ != nullptr) {
    reap_locked();
  }
  const auto ports = ports_;
  lock.unlock();
  ports->shutdown_all(reason);
}

void SandboxLife::note_torn_down_locked() {
  times_.teardown_done = monotonic_ns();
  torn_down_.notify_all();
}

void SandboxLife::reap_locked() {
  reaped_ = true;
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
    self->note_torn_down_locked();
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
  if (in_reset_ && state_ != SandboxState::kGone) {
    return absl::FailedPreconditionError(absl::StrFormat("%s: the sandbox is being reset", what));
  }
  if (!end_reason_.ok()) {
    return annotate(end_reason_, "%s: the sandbox is %s", what, name_of(state_));
  }
  return absl::FailedPreconditionError(
      absl::StrFormat("%s: the sandbox is %s", what, name_of(state_)));
}

StatusOr<SandboxLife::Run> SandboxLife::running(const char* what) const {
  const std::lock_guard lock(mutex_);
  if (state_ != SandboxState::kRunning) {
    return not_legal_locked(what);
  }
  return Run{run_, ports_};
}

SandboxLife::Run SandboxLife::run() const {
  const std::lock_guard lock(mutex_);
  return {run_, ports_};
}

Status SandboxLife::end_reason(uint64_t run) const {
  const std::lock_guard lock(mutex_);
  return run == run_ ? end_reason_ : was_reset();
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

std::optional<MemoryUse> SandboxLife::memory_use() {
  // Whoever resets it takes its machine away.
  const std::lock_guard control(control_mutex_);
  const auto machine = this->machine();
  if (machine == nullptr) {
    return std::nullopt;
  }
  const auto use = machine->memory_use();
  return use.ok() ? std::optional<MemoryUse>(*use) : std::nullopt;
}

StatusOr<PrefetchUse> SandboxLife::prefetch_use(const MemoryImage& image,
                                                std::span<const PageRange> ready) {
  const std::lock_guard control(control_mutex_);
  const auto machine = this->machine();
  if (machine == nullptr) {
    return absl::FailedPreconditionError("what was made ready ahead: the sandbox has no machine");
  }
  RAMET_ASSIGN_OR_RETURN(const WorkingSet touched, machine->touched());
  const auto foreseen = common(touched.written, ready);
  PrefetchUse use = {.ready_pages = pages_in(foreseen),
                     .misses = pages_in(touched.written) - pages_in(foreseen)};
  RAMET_ASSIGN_OR_RETURN(use.hits, machine->changed(image, foreseen));
  return use;
}

StatusOr<WorkingSet> SandboxLife::touched() {
  const std::lock_guard control(control_mutex_);
  const auto machine = this->machine();
  if (machine == nullptr) {
    return absl::FailedPreconditionError("which pages were touched: the sandbox has no machine");
  }
  return machine->touched();
}

StatusOr<InstanceSnapshot> SandboxLife::snapshot(uint64_t run) {
  const std::lock_guard control(control_mutex_);
  std::unique_lock lock(mutex_);
  if (run != run_) {
    return was_reset();
  }
  if (state_ != SandboxState::kRunning) {
    return not_legal_locked("take a snapshot");
  }
  const auto machine = machine_;
  lock.unlock();
  auto snapshot = machine->snapshot();
  RAMET_RETURN_IF_ERROR(end_reason(run));
  if (snapshot.ok()) {
    lock.lock();
    times_.snapshot_pause = snapshot->pause_ns;
  }
  return snapshot;
}

std::shared_ptr<ForkedMachine> SandboxLife::machine() const {
  const std::lock_guard lock(mutex_);
  return machine_;
}

void SandboxLife::mark(uint64_t SandboxTimes::*moment) {
  const std::lock_guard lock(mutex_);
  if (times_.*moment == 0) {
    times_.*moment = monotonic_ns();
  }
}

}  // namespace ramet
