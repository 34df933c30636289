// Which of KVM's ioctls Ramet's confined threads make; what else of KVM is called in the
// embedder's process, its own threads call.
//
// Thread rule: pure functions.
#ifndef RAMET_VMM_KVM_THREAD_IOCTLS_H_
#define RAMET_VMM_KVM_THREAD_IOCTLS_H_

#include <span>

#include "vmm/jail/policy.h"

namespace ramet {

std::span<const jail::IoctlRow> vcpu_thread_ioctls();
std::span<const jail::IoctlRow> worker_thread_ioctls();
// Of the thread that makes, restores, pauses and saves machines in a helper process.
std::span<const jail::IoctlRow> helper_thread_ioctls();

}  // namespace ramet

#endif  // RAMET_VMM_KVM_THREAD_IOCTLS_H_
