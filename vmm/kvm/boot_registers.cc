// Vcpu::set_entry: a kernel's entry state as KVM's registers.
#include <algorithm>

#include "vmm/kvm/vcpu.h"

namespace ramet {
namespace {

// IA32_MTRR_DEF_TYPE: MTRRs on, everything write-back (Intel SDM 3A, 12.11.2.1). A firmware would
// have done so; Linux takes memory without it for uncached.
constexpr uint32_t kMtrrDefType = 0x2ff;
constexpr uint64_t kMtrrEnabledWriteBack = (uint64_t{1} << 11) | 6;

kvm_segment to_kvm(const x86::SegmentState& from) {
  kvm_segment to = {};
  to.base = from.base;
  to.limit = from.limit;
  to.selector = from.selector;
  to.type = from.type;
  to.dpl = from.dpl & 3;
  to.present = from.present ? 1 : 0;
  to.s = from.code_or_data ? 1 : 0;
  to.l = from.long_mode ? 1 : 0;
  to.db = from.default_big ? 1 : 0;
  to.g = from.granular ? 1 : 0;
  to.unusable = from.present ? 0 : 1;
  return to;
}

}  // namespace

Status Vcpu::set_entry(const x86::EntryState& entry) {
  RAMET_ASSIGN_OR_RETURN(VcpuRegisters registers, this->registers());
  registers.general = {};
  registers.general.rip = entry.rip;
  registers.general.rsi = entry.rsi;
  registers.general.rflags = entry.rflags;
  kvm_sregs2& special = registers.special;
  special.cs = to_kvm(entry.cs);
  for (kvm_segment* segment : {&special.ds, &special.es, &special.fs, &special.gs, &special.ss}) {
    *segment = to_kvm(entry.data);
  }
  special.tr = to_kvm(entry.tr);
  special.gdt.base = entry.gdt_base;
  special.gdt.limit = entry.gdt_limit;
  special.idt = {};
  special.cr0 = entry.cr0;
  special.cr3 = entry.cr3;
  special.cr4 = entry.cr4;
  special.efer = entry.efer;
  RAMET_RETURN_IF_ERROR(set_registers(registers));
  const Msr mtrr = {kMtrrDefType, kMtrrEnabledWriteBack};
  return set_msrs({&mtrr, 1});
}

}  // namespace ramet
