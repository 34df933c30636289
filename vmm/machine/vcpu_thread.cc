#include "vmm/machine/vcpu_thread.h"

#include <chrono>
#include <csignal>
#include <utility>

#include "vmm/base/clock.h"

namespace ramet {
namespace {

// A kick is level-triggered by immediate_exit, so one is enough; it is repeated in case the
// embedder ignores the signal process-wide at that moment.
constexpr std::chrono::milliseconds kKickAgain(5);

// A vCPU that sleeps in the guest is out after 30 us on an idle host; waking who waits for it takes
// as long again.
constexpr uint64_t kSpinNs = 60'000;

// Twice what KVM has one instruction do before it leaves it (Vcpu::complete_pending_exit()).
constexpr int kMostAccesses = 2048;

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
      new VcpuThread(std::move(vcpu), handler, std::move(on_end), place));
  RAMET_RETURN_IF_ERROR(self->start_thread(&VcpuThread::body));
  return self;
}

Status VcpuThread::start_thread(void (VcpuThread::*what)()) {
  RAMET_ASSIGN_OR_RETURN(
      thread_, place_.jail->run(jail::ThreadKind::kVcpu, [this, what](jail::TenantSlot& slot) {
        slot.set(place_.tenant);
        (this->*what)();
      }));
  RAMET_ASSIGN_OR_RETURN(cpu_before_ns_, thread_->cpu_ns());
  return Status();
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
    changed_.wait(lock, [&] { return work_ || (wish_ != Wish::kPause && !in_call_); });
    if (work_) {
      do_work(&lock);
      continue;
    }
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
    lock.unlock();
    spin_while_idle();
    lock.lock();
  }
  phase_ = Phase::kEnded;
  if (work_) {  // it came while the end was told
    do_work(&lock);
  }
  changed_.notify_all();
  lock.unlock();
  // No kick comes after this; one that is left would be the first exit of the thread's next vCPU.
  consume_kicks();
}

void VcpuThread::spin_while_idle() const {
  const uint64_t until = monotonic_ns() + kSpinNs;
  while (wish_.load(std::memory_order_acquire) == Wish::kPause &&
         !has_work_.load(std::memory_order_acquire) && monotonic_ns() < until) {
    __builtin_ia32_pause();
  }
}

void VcpuThread::do_work(std::unique_lock<std::mutex>* lock) {
  const std::function<Status()> work = std::exchange(work_, nullptr);
  has_work_ = false;
  lock->unlock();
  Status status = work();
  lock->lock();
  worked_ = std::move(status);
  work_done_ = true;
  changed_.notify_all();
}

Status VcpuThread::begin_work(std::function<Status()> work) {
  std::unique_lock lock(mutex_);
  if (phase_ != Phase::kPaused || work_) {
    return absl::FailedPreconditionError("a vCPU's thread works for others while it is paused");
  }
  worked_.reset();
  work_done_ = false;
  work_ = std::move(work);
  has_work_ = true;
  lock.unlock();
  changed_.notify_all();
  return Status();
}

Status VcpuThread::end_work() {
  const uint64_t until = monotonic_ns() + kSpinNs;
  while (!work_done_.load(std::memory_order_acquire) && monotonic_ns() < until) {
    __builtin_ia32_pause();
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return worked_.has_value(); });
  return *worked_;
}

void VcpuThread::body_anew() {
  const bool whole = drop_instruction();
  {
    const std::lock_guard lock(mutex_);
    began_anew_ = whole;
    if (whole) {
      phase_ = Phase::kPaused;
      wish_ = Wish::kPause;
    }
    changed_.notify_all();
  }
  body();
}

void VcpuThread::run_guest() {
  while (wish_.load(std::memory_order_seq_cst) == Wish::kRun) {
    if (place_.governor->wait_until_ns() != 0) {
      wait_for_governor();
      continue;
    }
    const StatusOr<VcpuExit> exit = vcpu_->run();
    exits_.fetch_add(1, std::memory_order_relaxed);
    if (!exit.ok()) {
      return end({EndReason::kHostError, std::string(exit.status().ToString())});
    }
    // KVM completes what the last exit left before it looks at signals.
    half_done_ = exit->kind != ExitKind::kInterrupted;
    if (!half_done_) {
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
  if (half_done_) {
    finish_instruction();
    consume_kicks();
  }
}

std::optional<MachineEnd> VcpuThread::serve(const VcpuExit& exit) {
  if (leased_exits_ == 0) {
    const uint64_t now = monotonic_ns();
    if (first_exit_ns_.load(std::memory_order_relaxed) == 0) {
      first_exit_ns_.store(now, std::memory_order_relaxed);
    }
    const Governor::Lease lease = place_.governor->lease_exits(now);
    if (lease.hit) {
      return limit_end(*lease.hit);
    }
    leased_exits_ = lease.exits;
  }
  --leased_exits_;
  return handler_.handle(exit);
}

void VcpuThread::wait_for_governor() {
  const uint64_t until_ns = place_.governor->wait_until_ns();
  const uint64_t start_ns = monotonic_ns();
  const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(until_ns)};
  std::unique_lock lock(mutex_);
  const bool disturbed = changed_.wait_until(lock, until, [&] { return wish_ != Wish::kRun; });
  lock.unlock();
  if (!disturbed) {
    place_.governor->waited(until_ns);
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
      half_done_ = false;
      return;
    }
    if (auto reason = handler_.handle(*exit)) {
      return end(std::move(*reason));
    }
  }
}

bool VcpuThread::drop_instruction() {
  for (int i = 0; i < kMostAccesses; ++i) {
    const StatusOr<VcpuExit> exit = vcpu_->complete_pending_exit();
    if (!exit.ok() || exit->kind == ExitKind::kInterrupted) {
      return exit.ok();
    }
  }
  return false;
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
  std::unique_lock lock(mutex_);
  if (!takes_wishes()) {
    return absl::FailedPreconditionError("resume a vCPU that has ended: " + asked_end_.detail);
  }
  if (phase_ == Phase::kPaused) {
    vcpu_->clear_exit_request();
  }
  wish_.store(Wish::kRun, std::memory_order_release);
  lock.unlock();
  changed_.notify_all();
  return Status();
}

void VcpuThread::request_pause() {
  const std::lock_guard lock(mutex_);
  make_wish(Wish::kPause);
}

void VcpuThread::spin_until_paused() const {
  const uint64_t until = monotonic_ns() + kSpinNs;
  while (phase_.load(std::memory_order_acquire) == Phase::kRunning && monotonic_ns() < until) {
    __builtin_ia32_pause();
  }
}

void VcpuThread::wait_paused() {
  spin_until_paused();
  std::unique_lock lock(mutex_);
  const auto out = [&] { return phase_ != Phase::kRunning || wish_ == Wish::kRun; };
  while (!changed_.wait_for(lock, kKickAgain, out)) {
    kick();
  }
}

Status VcpuThread::begin_anew() {
  std::unique_lock lock(mutex_);
  exits_ = 0;
  waits_ = 0;
  waited_ns_ = 0;
  first_exit_ns_ = 0;
  leased_exits_ = 0;
  if (phase_ == Phase::kPaused && wish_ == Wish::kPause) {
    RAMET_ASSIGN_OR_RETURN(cpu_before_ns_, thread_->cpu_ns());
    return Status();
  }
  lock.unlock();
  thread_->join();
  lock.lock();
  asked_end_ = {EndReason::kStopped, "stopped"};
  wish_ = Wish::kStop;  // until the new thread is there
  began_anew_.reset();
  lock.unlock();
  RAMET_RETURN_IF_ERROR(start_thread(&VcpuThread::body_anew));
  lock.lock();
  changed_.wait(lock, [&] { return began_anew_.has_value(); });
  return *began_anew_
             ? Status()
             : absl::InternalError("the last exit of a vCPU that is reset cannot be completed");
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
  const bool awaited = wish_ != Wish::kPause;
  lock.unlock();
  if (awaited) {  // else the thread would wake to wait again
    changed_.notify_all();
  }
  return result;
}

VcpuThread::Phase VcpuThread::phase() const {
  const std::lock_guard lock(mutex_);
  return phase_;
}

}  // namespace ramet
