#include "vmm/base/fault_plan.h"

namespace ramet::sys {
namespace {

std::atomic<FaultPlan*> armed_plan{nullptr};

bool moves_bytes(Call call) {
  return call == Call::kRead || call == Call::kWrite || call == Call::kPread ||
         call == Call::kPwrite || call == Call::kGetrandom;
}

}  // namespace

void FaultPlan::arm() { armed_plan.store(this, std::memory_order_release); }

void FaultPlan::disarm() {
  FaultPlan* self = this;
  armed_plan.compare_exchange_strong(self, nullptr);
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
  FaultPlan* plan = armed_plan.load(std::memory_order_acquire);
  return plan == nullptr ? std::nullopt : plan->on_call(call);
}

}  // namespace ramet::sys
