// Filter: a policy compiled to the BPF that the kernel runs on each system call (seccomp(2)).
//
// Thread rule: immutable; install() from the thread that it is to bind.
// Invariant: install() binds the calling thread alone, for good; threads that it starts inherit it.
#ifndef RAMET_VMM_JAIL_FILTER_H_
#define RAMET_VMM_JAIL_FILTER_H_

#include <cstdint>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/policy.h"

namespace ramet::jail {

// What becomes of a call that no row allows.
enum class Refusal : uint8_t {
  kNotify,  // SECCOMP_RET_USER_NOTIF: the supervisor decides, and knows of it
  kErrno,   // SECCOMP_RET_ERRNO with EPERM: nobody is told
  kKill,    // SECCOMP_RET_KILL_PROCESS: for a process that is nothing but a machine
};

// struct sock_filter of <linux/filter.h>, whose home is filter.cc.
struct BpfInstruction {
  uint16_t code = 0;
  uint8_t jump_true = 0;
  uint8_t jump_false = 0;
  uint32_t k = 0;
};

class Filter {
 public:
  // Internal or ResourceExhausted, by libseccomp's word.
  static StatusOr<Filter> compile(const Policy& policy, Refusal refusal);

  // Binds the calling thread, which gets no_new_privs too. With kNotify it returns the listener's
  // descriptor, else an empty one. FailedPrecondition where a filter that was there before
  // has a listener already: the kernel grants one (EBUSY). Unimplemented where the kernel has no
  // such filters.
  StatusOr<UniqueFd> install() const;

  const std::vector<BpfInstruction>& program() const { return program_; }

 private:
  Filter(std::vector<BpfInstruction> program, Refusal refusal)
      : program_(std::move(program)), refusal_(refusal) {}

  std::vector<BpfInstruction> program_;
  Refusal refusal_;
};

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_FILTER_H_
