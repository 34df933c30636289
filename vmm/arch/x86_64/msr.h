// Which model-specific registers a snapshot may carry.
//
// Thread rule: pure functions over constant data.
// Invariant: the list is an allow-list: a hostile file cannot set an MSR that is not on it.
#ifndef RAMET_VMM_ARCH_X86_64_MSR_H_
#define RAMET_VMM_ARCH_X86_64_MSR_H_

#include <cstdint>

namespace ramet::x86 {

// Intel SDM 4, table 2-2.
inline constexpr uint32_t kMsrTsc = 0x10;
inline constexpr uint32_t kMsrTscDeadline = 0x6e0;

// False for the TSC and its deadline as well: they have an order of their own and are kept apart.
bool msr_may_be_restored(uint32_t index);

}  // namespace ramet::x86

#endif  // RAMET_VMM_ARCH_X86_64_MSR_H_
