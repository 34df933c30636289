#include "vmm/base/fault_plan.h"

#include <thread>

namespace ramet::sys {
namespace {

std::atomic<FaultPlan*> armed_plan{nullptr};
// Threads that ask a plan now.
std::atomic<uint64_t> askers{0};

bool moves_bytes(Call call) {
  return call == Call::kRead || call == Call::kWrite || call == Call::kPread ||
         call == Call::kPwrite || call == Call::kGetrandom;
}

}  // namespace

void FaultPlan::arm() { armed_plan.store(this, std::memory_order_release); }

void FaultPlan::disarm() {
  FaultPlan* self = this;
  armed_plan.compare_exchange_strong(self, nullptr);
  while (askers.load() != 0) {
    std::this_thread::yield();
  }
}

std::optional<int> FaultPlan::on_call(Call call) {
  const bool applies = error_ != kShortTransfer || moves_bytes(call);
  if (!applies || (call_ != Call::kAny && call_ != call)) {
    return std::nullopt;
  }
  const uint64_t index = seen_.fetch_add(1) + 1;
  if (index == n_ || (sticky_ && index > n_)) {
    fired_.store(true);
    return error_;
  }
  return std::nullopt;
}

std::optional<int> injected_error(Call call) {
  if (armed_plan.load(std::memory_order_relaxed) == nullptr) {
    return std::nullopt;
  }
  // Before the plan is read again: disarm() waits for those who may have found it.
  askers.fetch_add(1);
  FaultPlan* plan = armed_plan.load();
  const std::optional<int> error = plan == nullptr ? std::nullopt : plan->on_call(call);
  askers.fetch_sub(1);
  return error;
}

}  // namespace ramet::sys
