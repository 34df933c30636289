// Sweeps: an operation done again and again, with one more system call let through before one
// fails.
//
// Thread rule: the test's thread.
// Invariant: one plan is armed at a time.
#ifndef RAMET_TESTS_FAULT_FAULT_SWEEP_H_
#define RAMET_TESTS_FAULT_FAULT_SWEEP_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include <absl/status/status.h>
#include <catch2/catch.hpp>

#include "tests/support/skip.h"
#include "tests/system/sandbox/guest_template.h"
#include "vmm/base/fault_plan.h"

namespace ramet::testing {

// Arms a plan while it lives.
class Fault {
 public:
  Fault(sys::Call call, uint64_t n, int error);
  ~Fault() { disarm(); }
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;

  void disarm() { plan_.disarm(); }
  bool fired() const { return plan_.fired(); }

 private:
  sys::FaultPlan plan_;
};

struct Sweep {
  std::string name;
  sys::Call call = sys::Call::kAny;
  // Every call up to this is failed in turn; after it n grows by an eighth, for the thousands of
  // KVM_RUNs are all alike.
  uint64_t dense = 100;
  uint64_t last = UINT64_MAX;  // no further than this
  // No operation may take longer: it hangs.
  std::chrono::seconds patience = std::chrono::seconds(40);
  std::shared_ptr<sandbox::Engine> engine = {};  // drained before and after
};

// Runs `prepare` without and `operation` with a plan, for n = 1, 2, ... until the plan does not
// fire any more, with EIO, ENOMEM and EMFILE by turns. After each, `clean_up`; then the process
// must have as many descriptors and threads as before `prepare`. An operation in which nothing
// failed must succeed. Returns in how many operations something failed: 0 when the operation never
// makes such a call, and the sweep has shown nothing.
struct Steps {
  std::function<void()> prepare = [] {};
  std::function<absl::Status()> operation;
  std::function<void()> clean_up = [] {};
};
uint64_t run_sweep(const Sweep& sweep, const Steps& steps);

// A new fork of shared_template() answers.
void check_fork_works();

}  // namespace ramet::testing

#endif  // RAMET_TESTS_FAULT_FAULT_SWEEP_H_
