#include "vmm/machine/vcpu_thread.h"

#include <chrono>
#include <csignal>

#include "vmm/base/clock.h"

namespace ramet {
namespace {

// A kick is level-triggered by immediate_exit, so one is enough; it is repeated in case the
// embedder ignores the signal process-wide at that moment.
constexpr std::chrono::milliseconds kKickAgain(5);

void consume_kicks() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, vcpu_kick_signal());
  const timespec now = {};
  while (::sigtimedwait(&set, nullptr, &now) > 0) {
  }
}

}  // namespace

// Above the real-time signals that the C library keeps for itself; its default action is never
// taken, because the signal is consumed while blocked.
int vcpu_kick_signal() { return SIGRTMIN + 6; }

StatusOr<std::unique_ptr<VcpuThread>> VcpuThread::start(std::unique_ptr<Vcpu> vcpu,
                                                        const ExitHandler& handler, OnEnd on_end,
                                                        const Place& place) {
  RAMET_RETURN_IF_ERROR(vcpu->unblock_in_run(vcpu_kick_signal()));
  std::unique_ptr<VcpuThread> self(
      new VcpuThread(std::move(vcpu), handler, std::move(on_end), place.governor));
  RAMET_ASSIGN_OR_RETURN(
      self->thread_,
      place.jail->run(jail::ThreadKind::kVcpu,
                      [thread = self.get(), tenant = place.tenant](jail::TenantSlot& slot) {
                        slot.set(tenant);
                        thread->body();
                      }));
  RAMET_ASSIGN_OR_RETURN(self->cpu_before_ns_, self->thread_->cpu_ns());
  return self;
}

VcpuThread::~VcpuThread() {
  if (thread_ != nullptr) {
    stop();
    thread_->join();
  }
}

void VcpuThread::body() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return wish_ != Wish::kPause && !in_call_; });
    if (wish_ == Wish::kStop) {
      break;
    }
    const bool to_end = wish_ == Wish::kEnd;
    if (!to_end) {
      phase_ = Phase::kRunning;
      changed_.notify_all();
    }
    lock.unlock();
    to_end ? end_as_asked() : run_guest();
    lock.lock();
    if (phase_ == Phase::kEnded) {
      break;
    }
    phase_ = Phase::kPaused;
    changed_.notify_all();
  }
  phase_ = Phase::kEnded;
  changed_.notify_all();
  lock.unlock();
  // No kick comes after this; one that is left would be the first exit of the thread's next vCPU.
  consume_kicks();
}

void VcpuThread::run_guest() {
  while (wish_.load(std::memory_order_seq_cst) == Wish::kRun) {
    if (governor_.wait_until_ns() != 0) {
      wait_for_governor();
      continue;
    }
    const StatusOr<VcpuExit> exit = vcpu_->run();
    exits_.fetch_add(1, std::memory_order_relaxed);
    if (!exit.ok()) {
      return end({EndReason::kHostError, std::string(exit.status().ToString())});
    }
    if (exit->kind == ExitKind::kInterrupted) {
      consume_kicks();
      // Before wish and governor are looked at again: a request that comes after this sets it anew.
      vcpu_->clear_exit_request();
      continue;
    }
    if (auto reason = serve(*exit)) {
      return end(std::move(*reason));
    }
  }
  const Wish wish = wish_.load();
  if (wish == Wish::kStop) {
    return;
  }
  if (wish == Wish::kEnd) {
    return end_as_asked();
  }
  finish_instruction();
  consume_kicks();
}

std::optional<MachineEnd> VcpuThread::serve(const VcpuExit& exit) {
  if (leased_exits_ == 0) {
    const uint64_t now = monotonic_ns();
    if (first_exit_ns_.load(std::memory_order_relaxed) == 0) {
      first_exit_ns_.store(now, std::memory_order_relaxed);
    }
    const Governor::Lease lease = governor_.lease_exits(now);
    if (lease.hit) {
      return limit_end(*lease.hit);
    }
    leased_exits_ = lease.exits;
  }
  --leased_exits_;
  return handler_.handle(exit);
}

void VcpuThread::wait_for_governor() {
  const uint64_t until_ns = governor_.wait_until_ns();
  const uint64_t start_ns = monotonic_ns();
  const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(until_ns)};
  std::unique_lock lock(mutex_);
  const bool disturbed = changed_.wait_until(lock, until, [&] { return wish_ != Wish::kRun; });
  lock.unlock();
  if (!disturbed) {
    governor_.waited(until_ns);
  }
  waits_.fetch_add(1, std::memory_order_relaxed);
  waited_ns_.fetch_add(monotonic_ns() - start_ns, std::memory_order_relaxed);
}

void VcpuThread::finish_instruction() {
  while (true) {
    const StatusOr<VcpuExit> exit = vcpu_->complete_pending_exit();
    if (!exit.ok()) {
      return end({EndReason::kHostError, std::string(exit.status().ToString())});
    }
    if (exit->kind == ExitKind::kInterrupted) {
      return;
    }
    if (auto reason = handler_.handle(*exit)) {
      return end(std::move(*reason));
    }
  }
}

// The listener first: whoever sees kEnded may destroy what the listener uses.
void VcpuThread::end(MachineEnd end) {
  on_end_(std::move(end));
  const std::lock_guard lock(mutex_);
  phase_ = Phase::kEnded;
  changed_.notify_all();
}

void VcpuThread::end_as_asked() {
  std::unique_lock lock(mutex_);
  MachineEnd asked = asked_end_;
  lock.unlock();
  end(std::move(asked));
}

void VcpuThread::kick() {
  vcpu_->request_exit();
  // A thread that is ending cannot be signalled, and need not be.
  thread_->signal(vcpu_kick_signal()).IgnoreError();
}

void VcpuThread::look_at_governor() {
  const std::lock_guard lock(mutex_);
  if (phase_ == Phase::kRunning) {
    kick();
  }
}

StatusOr<uint64_t> VcpuThread::cpu_ns() const {
  RAMET_ASSIGN_OR_RETURN(const uint64_t used, thread_->cpu_ns());
  return used - cpu_before_ns_;
}

bool VcpuThread::takes_wishes() const {
  return wish_ != Wish::kEnd && wish_ != Wish::kStop && phase_ != Phase::kEnded;
}

void VcpuThread::make_wish(Wish wish) {
  if (!takes_wishes()) {
    return;
  }
  wish_.store(wish, std::memory_order_seq_cst);
  if (phase_ == Phase::kRunning) {
    kick();
  }
  changed_.notify_all();
}

Status VcpuThread::resume() {
  const std::lock_guard lock(mutex_);
  if (!takes_wishes()) {
    return absl::FailedPreconditionError("resume a vCPU that has ended: " + asked_end_.detail);
  }
  if (phase_ == Phase::kPaused) {
    vcpu_->clear_exit_request();
  }
  wish_.store(Wish::kRun, std::memory_order_release);
  changed_.notify_all();
  return Status();
}

void VcpuThread::request_pause() {
  const std::lock_guard lock(mutex_);
  make_wish(Wish::kPause);
}

void VcpuThread::wait_paused() {
  std::unique_lock lock(mutex_);
  const auto out = [&] { return phase_ != Phase::kRunning || wish_ == Wish::kRun; };
  while (!changed_.wait_for(lock, kKickAgain, out)) {
    kick();
  }
}

void VcpuThread::request_stop() {
  const std::lock_guard lock(mutex_);
  make_wish(Wish::kStop);
}

void VcpuThread::request_end(MachineEnd end) {
  const std::lock_guard lock(mutex_);
  if (takes_wishes()) {
    asked_end_ = std::move(end);
    make_wish(Wish::kEnd);
  }
}

void VcpuThread::stop() {
  request_stop();
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kKickAgain, [&] { return phase_ == Phase::kEnded; })) {
    kick();
  }
}

Status VcpuThread::call(const std::function<Status(Vcpu&)>& function) {
  std::unique_lock lock(mutex_);
  if (phase_ != Phase::kPaused || wish_ != Wish::kPause || in_call_) {
    return absl::FailedPreconditionError("a vCPU's registers can be reached while it is paused");
  }
  in_call_ = true;
  lock.unlock();
  Status result = function(*vcpu_);
  lock.lock();
  in_call_ = false;
  changed_.notify_all();
  return result;
}

VcpuThread::Phase VcpuThread::phase() const {
  const std::lock_guard lock(mutex_);
  return phase_;
}

}  // namespace ramet
