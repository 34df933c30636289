// Which MSRs a snapshot may carry.
#include "vmm/arch/x86_64/msr.h"

#include <catch2/catch.hpp>

using ramet::x86::msr_may_be_restored;

TEST_CASE("the MSRs that a kernel's state lives in may be restored") {
  // EFER, STAR, LSTAR, CSTAR, FMASK, FS, GS, KERNEL_GS, TSC_AUX, SYSENTER, PAT, MTRR, kvm-clock.
  for (const uint32_t index :
       {0xc0000080u, 0xc0000081u, 0xc0000082u, 0xc0000083u, 0xc0000084u, 0xc0000100u,
        0xc0000101u, 0xc0000102u, 0xc0000103u, 0x174u,      0x175u,      0x176u,
        0x277u,      0x2ffu,      0x200u,      0x20fu,      0x4b564d00u, 0x4b564d01u,
        0x4b564d07u, 0x3bu,       0x48u,       0x1a0u,      0xda0u}) {
    INFO(std::hex << index);
    CHECK(msr_may_be_restored(index));
  }
}

TEST_CASE("nothing else may: neither the TSC, which has its order, nor what is the host's") {
  // TSC and deadline; APIC base (in SREGS); microcode, MCE, PMU, SMBASE, VMX, SVM, feature control,
  // x2APIC registers, Hyper-V's and the edges of the ranges.
  for (const uint32_t index :
       {0x10u,       0x6e0u,      0x1bu,       0x8bu,       0x79u,       0x17au, 0x400u,
        0xc1u,       0x186u,      0x38fu,      0x9eu,       0x3au,       0x480u, 0xc0010114u,
        0xc0010117u, 0x800u,      0x8ffu,      0x40000000u, 0x1ffu,      0x210u, 0x4b564cffu,
        0x4b564d08u, 0xc000007fu, 0xc0000085u, 0xc00000ffu, 0xc0000104u, 0u,     ~0u}) {
    INFO(std::hex << index);
    CHECK(!msr_may_be_restored(index));
  }
}
