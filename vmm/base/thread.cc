#include "vmm/base/thread.h"

#include <sys/resource.h>

#include <csignal>
#include <ctime>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

// Everything but the faults a thread causes itself, which must not be blocked: blocked, they kill
// without a report.
sigset_t blocked_signals() {
  sigset_t set;
  sigfillset(&set);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
    sigdelset(&set, fault);
  }
  return set;
}

sys::Result create(pthread_t* handle, std::span<std::byte> stack, void* (*entry)(void*),
                   void* argument) {
  if (const auto injected = sys::injected_error(sys::Call::kThreadCreate)) {
    return {-1, *injected};
  }
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error == 0) {
    error = stack.empty() ? pthread_attr_setstacksize(&attributes, kThreadStackBytes)
                          : pthread_attr_setstack(&attributes, stack.data(), stack.size());
    if (error == 0) {
      // The new thread inherits the creator's mask, so the mask is set around the creation: there
      // is no moment at which the thread runs with the embedder's signals open.
      const sigset_t blocked = blocked_signals();
      sigset_t before;
      pthread_sigmask(SIG_BLOCK, &blocked, &before);
      error = pthread_create(handle, &attributes, entry, argument);
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    pthread_attr_destroy(&attributes);
  }
  return error == 0 ? sys::Result{0, 0} : sys::Result{-1, error};
}

}  // namespace

void Thread::lower_priority() {
  constexpr int kBackground = 6;
  // Of this thread alone: on Linux a nice value is a thread's (setpriority(2)). To have less is
  // granted to everybody.
  ::setpriority(PRIO_PROCESS, 0, niceness() + kBackground);
}

int Thread::niceness() { return ::getpriority(PRIO_PROCESS, 0); }

void* Thread::entry(void* self) {
  auto* const thread = static_cast<Thread*>(self);
  // By itself it is one prctl(); from outside, the C library goes by way of /proc.
  pthread_setname_np(pthread_self(), thread->name_.c_str());
  thread->body_();
  return nullptr;
}

StatusOr<std::unique_ptr<Thread>> Thread::start(const std::string& name, std::function<void()> body,
                                                std::span<std::byte> stack) {
  std::unique_ptr<Thread> thread(new Thread(name, std::move(body)));
  const sys::Result result = create(&thread->handle_, stack, &Thread::entry, thread.get());
  if (!result.ok()) {
    return result.status("start thread %s", name);
  }
  thread->started_ = true;
  return thread;
}

Thread::~Thread() { join(); }

void Thread::join() {
  if (started_) {
    pthread_join(handle_, nullptr);
    started_ = false;
  }
}

Status Thread::signal(int signal) const {
  if (!started_) {
    return absl::FailedPreconditionError("signal to a thread that was joined");
  }
  const int error = pthread_kill(handle_, signal);
  return error == 0 ? Status() : errno_status(error, "pthread_kill");
}

StatusOr<uint64_t> Thread::cpu_ns() const {
  if (!started_) {
    return absl::FailedPreconditionError("the clock of a thread that was joined");
  }
  clockid_t clock = {};
  if (const int error = pthread_getcpuclockid(handle_, &clock); error != 0) {
    return errno_status(error, "pthread_getcpuclockid");
  }
  timespec used = {};
  const sys::Result read = sys::invoke(sys::Call::kClock, sys::OnEintr::kRetry,
                                       [&] { return ::clock_gettime(clock, &used); });
  RAMET_RETURN_IF_ERROR(read.status("read a thread's clock"));
  return static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
}

}  // namespace ramet
