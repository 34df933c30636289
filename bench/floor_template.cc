// The template of the floor: a guest of a few instructions, run by nobody yet, and its saved state.
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "bench/floor_kvm.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kPageTables = 0x9000;
constexpr uint64_t kCode = 0x10'0000;
constexpr uint64_t kWritten = 0x20'0000;

// mov dx, 0x500; out dx, al; jmp back to the out
constexpr std::array<uint8_t, 7> kProgram = {0x66, 0xba, 0x00, 0x05, 0xee, 0xeb, 0xfd};
// The same after it wrote to rcx pages from rdi on: mov [rdi], rdi; add rdi, 4096; dec rcx; jnz
constexpr std::array<uint8_t, 22> kWriter = {0x48, 0x89, 0x3f, 0x48, 0x81, 0xc7, 0x00, 0x10,
                                             0x00, 0x00, 0x48, 0xff, 0xc9, 0x75, 0xf1, 0x66,
                                             0xba, 0x00, 0x05, 0xee, 0xeb, 0xfd};

// The same after it wrote rcx times to rdi: mov [rdi], eax; dec rcx; jnz
constexpr std::array<uint8_t, 14> kNotifier = {0x89, 0x07, 0x48, 0xff, 0xc9, 0x75, 0xf9,
                                               0x66, 0xba, 0x00, 0x05, 0xee, 0xeb, 0xfd};

std::span<const uint8_t> program_of(const FloorGuest& guest) {
  if (guest.notifications != 0) {
    return kNotifier;
  }
  return guest.written_pages != 0 ? std::span<const uint8_t>(kWriter) : kProgram;
}

// 64-bit mode at kCode, the first GiB mapped to itself in 2 MiB pages.
void enter(FloorVm* machine, const FloorGuest& guest, Calls* calls) {
  auto* bytes = static_cast<uint8_t*>(machine->memory);
  std::array<uint64_t, 3 * 512> tables = {};
  tables[0] = (kPageTables + 0x1000) | 3;
  tables[512] = (kPageTables + 0x2000) | 3;
  for (uint64_t i = 0; i < 512; ++i) {
    tables[1024 + i] = i << 21 | 0x83;
  }
  std::memcpy(bytes + kPageTables, tables.data(), sizeof tables);
  std::ranges::copy(program_of(guest), bytes + kCode);
  kvm_sregs2 sregs = {};
  calls->io(machine->vcpu, KVM_GET_SREGS2, &sregs, "KVM_GET_SREGS2");
  kvm_segment code = {};
  code.limit = 0xffffffff;
  code.selector = 0x10;
  code.type = 11;
  code.present = code.s = code.l = code.g = 1;
  kvm_segment data = code;
  data.selector = 0x18;
  data.type = 3;
  data.l = 0;
  data.db = 1;
  sregs.cs = code;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
  sregs.cr0 = 0x80000031;
  sregs.cr3 = kPageTables;
  sregs.cr4 = 0x20;
  sregs.efer = 0x500;
  calls->io(machine->vcpu, KVM_SET_SREGS2, &sregs, "KVM_SET_SREGS2");
  kvm_regs regs = {};
  regs.rip = kCode;
  regs.rcx = guest.notifications != 0 ? guest.notifications : guest.written_pages;
  regs.rdi = guest.notifications != 0 ? kFloorNotified : kWritten;
  regs.rflags = 2;
  calls->io(machine->vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

// The MSRs that KVM lists and this vCPU has, but for the TSC's own.
void save_msrs(const FloorTemplate& floor, int vcpu, Calls* calls) {
  std::vector<uint32_t> indices(1 + 1000);
  indices[0] = 1000;
  calls->io(floor.kvm, KVM_GET_MSR_INDEX_LIST, indices.data(), "KVM_GET_MSR_INDEX_LIST");
  kvm_msrs* all = floor.state.msrs.get();
  for (uint32_t i = 0; calls->ok() && i < indices[0] && all->nmsrs < kMostEntries; ++i) {
    MsrBuffer one;
    one.get()->nmsrs = 1;
    one.get()->entries[0].index = indices[1 + i];
    if (::ioctl(vcpu, KVM_GET_MSRS, one.get()) == 1 &&
        ::ioctl(vcpu, KVM_SET_MSRS, one.get()) == 1) {
      all->entries[all->nmsrs++] = one.get()->entries[0];
    }
  }
}

void save(const FloorTemplate& floor, const FloorVm& machine, Calls* calls) {
  SavedState& state = floor.state;
  const int vcpu = machine.vcpu;
  state.xsave.resize(static_cast<size_t>(calls->io(floor.kvm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2,
                                                   "KVM_CAP_XSAVE2")) /
                         8 +
                     512);
  calls->io(vcpu, KVM_GET_MP_STATE, &state.mp_state, "KVM_GET_MP_STATE");
  calls->io(vcpu, KVM_GET_REGS, &state.regs, "KVM_GET_REGS");
  calls->io(vcpu, KVM_GET_SREGS2, &state.sregs, "KVM_GET_SREGS2");
  calls->io(vcpu, KVM_GET_XCRS, &state.xcrs, "KVM_GET_XCRS");
  calls->io(vcpu, KVM_GET_XSAVE2, state.xsave.data(), "KVM_GET_XSAVE2");
  save_msrs(floor, vcpu, calls);
  calls->io(vcpu, KVM_GET_LAPIC, &state.lapic, "KVM_GET_LAPIC");
  calls->io(vcpu, KVM_GET_VCPU_EVENTS, &state.events, "KVM_GET_VCPU_EVENTS");
  calls->io(vcpu, KVM_GET_DEBUGREGS, &state.debugregs, "KVM_GET_DEBUGREGS");
  calls->io(machine.vm, KVM_GET_CLOCK, &state.clock, "KVM_GET_CLOCK");
  state.clock.flags = 0;
}

}  // namespace

FloorTemplatePtr make_floor_template(uint64_t memory_bytes, FloorResult* why,
                                     const FloorGuest& guest) {
  *why = {};
  Calls calls(why);
  FloorTemplatePtr floor(new FloorTemplate);
  floor->memory_bytes = memory_bytes;
  floor->kvm =
      static_cast<int>(calls.note("open /dev/kvm", ::open("/dev/kvm", O_RDWR | O_CLOEXEC)));
  floor->memfd = static_cast<int>(
      calls.note("memfd_create", ::memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  calls.note("ftruncate", ::ftruncate(floor->memfd, static_cast<off_t>(memory_bytes)));
  floor->run_bytes = static_cast<uint64_t>(
      calls.io(floor->kvm, KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE"));
  kvm_cpuid2* cpuid = floor->state.cpuid.get();
  cpuid->nent = kMostEntries;
  calls.io(floor->kvm, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
  floor->intel = cpuid->nent > 0 && cpuid->entries[0].ebx == 0x756e6547;  // "Genu"
  FloorVm machine;
  FloorResult unused;
  make_vm(*floor, MAP_SHARED, &machine, &calls, &unused);
  if (calls.ok()) {
    enter(&machine, guest, &calls);
    save(*floor, machine, &calls);
  }
  destroy(*floor, &machine);
  calls.note("F_ADD_SEALS",
             ::fcntl(floor->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
  return calls.ok() ? std::move(floor) : nullptr;
}

void FloorTemplateDeleter::operator()(FloorTemplate* floor) const { delete floor; }

}  // namespace ramet::bench
