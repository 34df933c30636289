// Tenant: who answers for what a confined thread does, and is told when it was refused a system
// call. TenantSlot: the one a thread works for at the moment.
//
// Thread rule: every method from any thread; close() and wait_told() not from the tenant's own
// function.
// Invariant: after close() has returned the function is neither running nor called again.
#ifndef RAMET_VMM_JAIL_TENANT_H_
#define RAMET_VMM_JAIL_TENANT_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "vmm/jail/policy.h"

namespace ramet::jail {

// A system call that no row allows.
struct RefusedCall {
  ThreadKind thread = ThreadKind::kVcpu;
  std::string syscall;  // its Linux name, or its number where it has none
  std::array<uint64_t, 6> arguments = {};
};

// "a vcpu thread was refused the system call openat(0xffffff9c, ...)", for messages.
std::string describe(const RefusedCall& call);

class Tenant {
 public:
  using Function = std::function<void(const RefusedCall&)>;

  // `function` runs on a thread of the supervisor, which all sandboxes of an engine share.
  explicit Tenant(Function function) : function_(std::move(function)) {}

  void tell(const RefusedCall& call) {
    const std::lock_guard lock(mutex_);
    if (function_) {
      function_(call);
    }
  }
  // Returns when nobody is being told.
  void wait_told() { const std::lock_guard lock(mutex_); }
  void close() {
    const std::lock_guard lock(mutex_);
    function_ = nullptr;
  }

 private:
  std::mutex mutex_;
  Function function_;
};

class TenantSlot {
 public:
  void set(std::shared_ptr<Tenant> tenant) {
    const std::lock_guard lock(mutex_);
    tenant_.swap(tenant);
  }
  std::shared_ptr<Tenant> get() const {
    const std::lock_guard lock(mutex_);
    return tenant_;
  }

  // Set for good once a call of this thread was refused: it is not to be trusted with more work.
  void mark_refused() { refused_.store(true); }
  bool was_refused() const { return refused_.load(); }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<Tenant> tenant_;
  std::atomic<bool> refused_{false};
};

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_TENANT_H_
