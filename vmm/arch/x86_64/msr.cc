#include "vmm/arch/x86_64/msr.h"

#include <algorithm>
#include <iterator>

namespace ramet::x86 {
namespace {

struct MsrRange {
  uint32_t first;
  uint32_t last;
};

// Ascending. Intel SDM 4 chapter 2, AMD APM 2 appendix A, Documentation/virt/kvm/x86/msr.rst.
constexpr MsrRange kRestorable[] = {
    {0x3b, 0x3b},              // IA32_TSC_ADJUST
    {0x48, 0x48},              // IA32_SPEC_CTRL
    {0x122, 0x122},            // IA32_TSX_CTRL
    {0x140, 0x140},            // MISC_FEATURES_ENABLES
    {0x174, 0x176},            // IA32_SYSENTER_CS, ESP, EIP
    {0x1a0, 0x1a0},            // IA32_MISC_ENABLE
    {0x1c4, 0x1c5},            // IA32_XFD, IA32_XFD_ERR
    {0x200, 0x20f},            // IA32_MTRR_PHYSBASEn, MASKn
    {0x250, 0x250},            // IA32_MTRR_FIX64K
    {0x258, 0x259},            // IA32_MTRR_FIX16K
    {0x268, 0x26f},            // IA32_MTRR_FIX4K
    {0x277, 0x277},            // IA32_PAT
    {0x2ff, 0x2ff},            // IA32_MTRR_DEF_TYPE
    {0xda0, 0xda0},            // IA32_XSS
    {0x4b564d00, 0x4b564d01},  // MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW
    {0x4b564d02, 0x4b564d07},  // 0 unless the CPU model grants the feature
    {0xc0000080, 0xc0000084},  // EFER, STAR, LSTAR, CSTAR, FMASK
    {0xc0000100, 0xc0000103},  // FS_BASE, GS_BASE, KERNEL_GS_BASE, TSC_AUX
    {0xc0010015, 0xc0010015},  // HWCR
    {0xc001011f, 0xc001011f},  // VIRT_SPEC_CTRL
};

}  // namespace

bool msr_may_be_restored(uint32_t index) {
  return std::any_of(std::begin(kRestorable), std::end(kRestorable), [&](const MsrRange& range) {
    return index >= range.first && index <= range.last;
  });
}

}  // namespace ramet::x86
