#include "examples/cli/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "examples/cli/exit_code.h"

namespace cli {
namespace {

sigset_t signal_set() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    sigaddset(&set, number);
  }
  return set;
}

}  // namespace

std::shared_ptr<Interrupts> Interrupts::create() {
  const sigset_t set = signal_set();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  auto interrupts = std::make_shared<Interrupts>();
  // Detached: it waits for as long as the process lives.
  std::thread([interrupts] { interrupts->wait_for_signals(); }).detach();
  return interrupts;
}

void Interrupts::act(int signal) {
  // To the very end: the main thread must not report what the action's cleaning made fail.
  const std::lock_guard lock(mutex_);
  if (!action_ || action_(signal) == AfterSignal::kExitNow) {
    ::_exit(exit_code_of_signal(signal));
  }
}

void Interrupts::wait_for_signals() {
  const sigset_t set = signal_set();
  int first = 0;
  if (sigwait(&set, &first) != 0) {
    return;
  }
  received_.store(first);
  // The action has a thread of its own, so that a second signal ends the process even while it
  // runs.
  std::thread([this, first] { act(first); }).detach();
  const timespec grace = {.tv_sec = kGrace.count(), .tv_nsec = 0};
  const int second = sigtimedwait(&set, nullptr, &grace);
  ::_exit(exit_code_of_signal(second > 0 ? second : first));
}

Interrupts::Scope::Scope(std::shared_ptr<Interrupts> interrupts, SignalAction action)
    : interrupts_(std::move(interrupts)) {
  const std::lock_guard lock(interrupts_->mutex_);
  interrupts_->action_ = std::move(action);
}

Interrupts::Scope::~Scope() {
  const std::lock_guard lock(interrupts_->mutex_);
  interrupts_->action_ = nullptr;
}

}  // namespace cli
