// VcpuThread: one vCPU and the thread that runs it, as a state machine.
//
//              resume()                    pause()
//   kPaused ------------> kRunning ------------------> kPaused
//      |                     | the guest or the host ends it
//      | stop()              v
//      +----------------> kEnded <---- stop()
//      ^                     |
//      +---------------------+
//            begin_anew()
//
// Thread rule: resume(), pause(), stop(), call() from any thread but the vCPU's own; request_stop()
// and request_end() from any. Invariant: outside kRunning the vCPU is not in KVM_RUN and no MMIO or
// PIO of it is half done. The thread is confined: of KVM it may run the vCPU and raise interrupts,
// so registers are read and written on the caller's. No signal handler is installed: the kick
// signal is open only inside KVM_RUN and consumed with sigtimedwait. A vCPU that the governor makes
// wait is kRunning, and every wish ends its waiting at once.
#ifndef RAMET_VMM_MACHINE_VCPU_THREAD_H_
#define RAMET_VMM_MACHINE_VCPU_THREAD_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "vmm/jail/jail.h"
#include "vmm/kvm/vcpu.h"
#include "vmm/machine/exit_handler.h"
#include "vmm/machine/governor.h"

namespace ramet {

class VcpuThread {
 public:
  enum class Phase : uint8_t { kPaused, kRunning, kEnded };
  // Called on the vCPU thread, once, when the guest, the host or request_end() ended it.
  using OnEnd = std::function<void(MachineEnd)>;

  struct Place {
    jail::Jail* jail = nullptr;            // makes the thread; outlives it
    std::shared_ptr<jail::Tenant> tenant;  // answers for what it does
    Governor* governor = nullptr;          // outlives it
  };
  // Starts the thread, paused. `handler` must outlive it.
  static StatusOr<std::unique_ptr<VcpuThread>> start(std::unique_ptr<Vcpu> vcpu,
                                                     const ExitHandler& handler, OnEnd on_end,
                                                     const Place& place);
  // Stops and joins.
  ~VcpuThread();

  // FailedPrecondition once ended.
  Status resume();
  // Two steps, so that all vCPUs of a machine leave the guest at the same time: ask all, then wait
  // for each.
  void request_pause();
  // Returns when the vCPU is paused or ended.
  void wait_paused();

  // Ends it; returns when the thread has left its loop.
  void stop();
  // The same without waiting.
  void request_stop();
  // Ends it on its own thread, as an exit of the guest would, with this reason; paused it ends too.
  // For callers that hold locks which OnEnd may want. Never blocks.
  void request_end(MachineEnd end);

  // Paused, as after start(), for a vCPU whose registers are about to be set anew: nothing has been
  // counted, nobody wishes anything, and no exit is half done. One that ended gets another thread.
  // Paused or ended before, and no other method meanwhile.
  Status begin_anew();

  // Has its thread do `work` while the vCPU stays paused and call() goes on; one at a time, and
  // end_work() returns what came of it. FailedPrecondition unless paused.
  Status begin_work(std::function<Status()> work);
  Status end_work();

  // Runs `function` here, on the caller's thread, while the vCPU is paused and stays so;
  // FailedPrecondition when it is not paused, or another caller is at it.
  Status call(const std::function<Status(Vcpu&)>& function);

  Phase phase() const;
  // CLOCK_MONOTONIC of the first exit that the guest caused, 0 before it: the first moment at which
  // the guest is known to have run.
  uint64_t first_exit_ns() const { return first_exit_ns_.load(std::memory_order_relaxed); }
  uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }
  // What the thread has used of processors for this vCPU.
  StatusOr<uint64_t> cpu_ns() const;
  // How often the governor made it wait, and for how long.
  uint64_t waits() const { return waits_.load(std::memory_order_relaxed); }
  uint64_t waited_ns() const { return waited_ns_.load(std::memory_order_relaxed); }
  // Gets it out of the guest, to look at the governor. Never blocks.
  void look_at_governor();

 private:
  enum class Wish : uint8_t { kPause, kRun, kEnd, kStop };
  VcpuThread(std::unique_ptr<Vcpu> vcpu, const ExitHandler& handler, OnEnd on_end, Place place)
      : vcpu_(std::move(vcpu)),
        handler_(handler),
        on_end_(std::move(on_end)),
        place_(std::move(place)) {}
  // On a thread of the jail's.
  Status start_thread(void (VcpuThread::*what)());
  void body();
  // The same, after an end that may have left an exit half done.
  void body_anew();
  // Runs the guest until the wish changes or it ends.
  void run_guest();
  // What the exit asks for, once it is counted.
  std::optional<MachineEnd> serve(const VcpuExit& exit);
  // Until the governor lets it enter the guest, or there is another wish.
  void wait_for_governor();
  // Drops what is left of one: false where there is no end to it.
  bool drop_instruction();
  // Handles what is left of an instruction that was half done, so that the state is whole.
  void finish_instruction();
  // Waits for a moment in which it does nothing else: a thread that sleeps is told later than the
  // vCPU takes to leave the guest.
  void spin_until_paused() const;
  // The same on its own thread: what it is to do when it is paused often comes at once.
  void spin_while_idle() const;
  // With `lock` of mutex_ held.
  void do_work(std::unique_lock<std::mutex>* lock);
  void end(MachineEnd end);
  void kick();
  // With mutex_ held: false once it is to end or has ended, for good.
  bool takes_wishes() const;
  void make_wish(Wish wish);
  // On the vCPU thread, for Wish::kEnd.
  void end_as_asked();

  const std::unique_ptr<Vcpu> vcpu_;
  const ExitHandler& handler_;
  const OnEnd on_end_;
  const Place place_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<Phase> phase_{Phase::kPaused};  // changes with mutex_ held
  std::atomic<Wish> wish_{Wish::kPause};
  MachineEnd asked_end_{EndReason::kStopped, "stopped"};  // until Wish::kEnd says more
  bool in_call_ = false;
  std::function<Status()> work_;
  std::optional<Status> worked_;        // since begin_work(), when it is done
  std::atomic<bool> has_work_{false};   // follows work_
  std::atomic<bool> work_done_{false};  // follows worked_
  bool half_done_ = false;  // the thread's own: an exit whose instruction KVM has not completed
  std::optional<bool> began_anew_;  // of the latest begin_anew(): whether it could
  std::atomic<uint64_t> first_exit_ns_{0};
  std::atomic<uint64_t> exits_{0};
  uint64_t leased_exits_ = 0;  // the thread's own
  std::atomic<uint64_t> waits_{0};
  std::atomic<uint64_t> waited_ns_{0};
  uint64_t cpu_before_ns_ = 0;                  // of what the thread did before
  std::unique_ptr<jail::JailedThread> thread_;  // last: it uses all of the above
};

// What gets a vCPU thread out of KVM_RUN; for the rows of its policy.
int vcpu_kick_signal();

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_VCPU_THREAD_H_
