// What a compiled filter answers to a system call, worked out in user space.
//
// Thread rule: pure functions.
#ifndef RAMET_TESTS_UNIT_VMM_JAIL_BPF_H_
#define RAMET_TESTS_UNIT_VMM_JAIL_BPF_H_

#include <array>
#include <cstdint>

#include "vmm/jail/filter.h"

namespace ramet::testing {

// struct seccomp_data of <linux/seccomp.h>, but for the instruction pointer, which no rule looks
// at.
struct Call {
  int number = 0;
  uint32_t architecture = 0;
  std::array<uint64_t, 6> arguments = {};
};

// SECCOMP_RET_*.
uint32_t evaluate(const jail::Filter& filter, const Call& call);

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_VMM_JAIL_BPF_H_
