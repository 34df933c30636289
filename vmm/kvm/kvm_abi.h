// The one door to <linux/kvm.h>: the kernel's structures as the kernel lays them out, also in C++.
//
// Thread rule: types only.
// Invariant: the sizes below are the kernel's; KVM's request numbers hold them, so a wrong one is
// EINVAL at run time.
// Why: <linux/stddef.h> before Linux 6.6 declares a flexible array beside an empty struct, which
// has size 0 in C and 1 in C++: kvm_cpuid2 becomes 12 bytes and its entries move.
#ifndef RAMET_VMM_KVM_KVM_ABI_H_
#define RAMET_VMM_KVM_KVM_ABI_H_

#include <linux/stddef.h>

#include <cstddef>

#undef __DECLARE_FLEX_ARRAY
// NOLINTNEXTLINE(bugprone-reserved-identifier): the kernel's name
#define __DECLARE_FLEX_ARRAY(type, name) type name[]
#include <linux/kvm.h>

// Linux 6.11; the headers that this is built with may be older.
#ifndef KVM_PRE_FAULT_MEMORY
struct kvm_pre_fault_memory {  // NOLINT(readability-identifier-naming): the kernel's name
  __u64 gpa;
  __u64 size;
  __u64 flags;
  __u64 padding[5];
};
#define KVM_CAP_PRE_FAULT_MEMORY 236
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, struct kvm_pre_fault_memory)
#endif
static_assert(sizeof(kvm_pre_fault_memory) == 64);

static_assert(sizeof(kvm_cpuid2) == 8 && offsetof(kvm_cpuid2, entries) == 8);
static_assert(sizeof(kvm_msrs) == 8 && offsetof(kvm_msrs, entries) == 8);
static_assert(sizeof(kvm_msr_list) == 4 && offsetof(kvm_msr_list, indices) == 4);
static_assert(sizeof(kvm_signal_mask) == 4 && offsetof(kvm_signal_mask, sigset) == 4);
static_assert(sizeof(kvm_xsave) == 4096);

#endif  // RAMET_VMM_KVM_KVM_ABI_H_
