#include "bench/floor.h"

#include <fcntl.h>
#include <linux/stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <vector>

// Before Linux 6.6 this macro gives structures with a flexible array another size in C++ than in C.
#undef __DECLARE_FLEX_ARRAY
// NOLINTNEXTLINE(bugprone-reserved-identifier): the kernel's own name
#define __DECLARE_FLEX_ARRAY(type, name) type name[]
#include <linux/kvm.h>
static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8);

namespace ramet::bench {
namespace {

constexpr uint64_t kPageTables = 0x9000;
constexpr uint64_t kCode = 0x10'0000;
constexpr size_t kMostEntries = 256;

// mov dx, 0x500; out dx, al; jmp back to the out
constexpr std::array<uint8_t, 7> kProgram = {0x66, 0xba, 0x00, 0x05, 0xee, 0xeb, 0xfd};

uint64_t now_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// A list as KVM takes it: a header of 8 bytes, then the entries.
template <typename Header, typename Entry>
struct List {
  Header* get() { return reinterpret_cast<Header*>(words.data()); }
  std::array<uint64_t, 1 + kMostEntries * sizeof(Entry) / 8> words = {};
};
using CpuidBuffer = List<kvm_cpuid2, kvm_cpuid_entry2>;
using MsrBuffer = List<kvm_msrs, kvm_msr_entry>;

struct SavedState {
  CpuidBuffer cpuid;
  kvm_sregs2 sregs = {};
  kvm_xcrs xcrs = {};
  std::vector<uint64_t> xsave;
  MsrBuffer msrs;
  kvm_clock_data clock = {};
  kvm_lapic_state lapic = {};
  kvm_vcpu_events events = {};
  kvm_debugregs debugregs = {};
  kvm_regs regs = {};
  kvm_mp_state mp_state = {};
};

// Stops at the first call that fails and remembers which it was.
class Calls {
 public:
  explicit Calls(FloorResult* result) : result_(result) {}
  bool ok() const { return result_->failed == nullptr; }
  long note(const char* what, long value) {
    if (value < 0 && ok()) {
      result_->failed = what;
      result_->error = errno;
    }
    return value;
  }
  template <typename T>
  long io(int fd, unsigned long request, T argument, const char* what) {
    return ok() ? note(what, ::ioctl(fd, request, argument)) : -1;
  }

 private:
  FloorResult* result_;
};

}  // namespace

class FloorTemplate {
 public:
  ~FloorTemplate() {
    ::close(memfd);
    ::close(kvm);
  }
  int kvm = -1;
  int memfd = -1;
  uint64_t memory_bytes = 0;
  uint64_t run_bytes = 0;
  bool intel = false;
  mutable SavedState state;  // KVM's SET calls take pointers to non-const
};

void FloorTemplateDeleter::operator()(FloorTemplate* floor) const { delete floor; }

namespace {

// The machine of one fork, or of the template while it is made.
struct Machine {
  int vm = -1;
  int vcpu = -1;
  void* memory = MAP_FAILED;
  void* run = MAP_FAILED;
};

void make_vm(const FloorTemplate& floor, int sharing, Machine* machine, Calls* calls,
             FloorResult* times) {
  const uint64_t start = now_ns();
  machine->vm = static_cast<int>(calls->io(floor.kvm, KVM_CREATE_VM, 0, "KVM_CREATE_VM"));
  const uint64_t made = now_ns();
  kvm_enable_cap split = {};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = 24;
  calls->io(machine->vm, KVM_ENABLE_CAP, &split, "KVM_CAP_SPLIT_IRQCHIP");
  if (floor.intel) {
    uint64_t identity_map = 0xfffbc000;
    calls->io(machine->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR");
    calls->io(machine->vm, KVM_SET_TSS_ADDR, 0xfffbd000UL, "KVM_SET_TSS_ADDR");
  }
  const uint64_t irqchip = now_ns();
  machine->memory = ::mmap(nullptr, floor.memory_bytes, PROT_READ | PROT_WRITE,
                           sharing | MAP_NORESERVE, floor.memfd, 0);
  calls->note("mmap of guest memory", machine->memory == MAP_FAILED ? -1 : 0);
  kvm_userspace_memory_region slot = {};
  slot.memory_size = floor.memory_bytes;
  slot.userspace_addr = reinterpret_cast<uint64_t>(machine->memory);
  calls->io(machine->vm, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION");
  const uint64_t memory = now_ns();
  machine->vcpu = static_cast<int>(calls->io(machine->vm, KVM_CREATE_VCPU, 0, "KVM_CREATE_VCPU"));
  if (calls->ok()) {
    machine->run =
        ::mmap(nullptr, floor.run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, machine->vcpu, 0);
    calls->note("mmap of kvm_run", machine->run == MAP_FAILED ? -1 : 0);
  }
  const uint64_t vcpu = now_ns();
  calls->io(machine->vcpu, KVM_SET_CPUID2, floor.state.cpuid.get(), "KVM_SET_CPUID2");
  times->create_vm_ns = made - start;
  times->irqchip_ns = irqchip - made;
  times->memory_ns = memory - irqchip;
  times->vcpu_ns = vcpu - memory;
  times->cpuid_ns = now_ns() - vcpu;
}

void destroy(const FloorTemplate& floor, Machine* machine) {
  if (machine->run != MAP_FAILED) {
    ::munmap(machine->run, floor.run_bytes);
  }
  ::close(machine->vcpu);  // -1 where it was not made: EBADF
  ::close(machine->vm);
  if (machine->memory != MAP_FAILED) {
    ::munmap(machine->memory, floor.memory_bytes);
  }
}

void restore(const FloorTemplate& floor, const Machine& machine, Calls* calls) {
  SavedState& state = floor.state;
  const int vcpu = machine.vcpu;
  calls->io(machine.vm, KVM_SET_CLOCK, &state.clock, "KVM_SET_CLOCK");
  calls->io(vcpu, KVM_SET_SREGS2, &state.sregs, "KVM_SET_SREGS2");
  calls->io(vcpu, KVM_SET_XCRS, &state.xcrs, "KVM_SET_XCRS");
  calls->io(vcpu, KVM_SET_XSAVE, state.xsave.data(), "KVM_SET_XSAVE");
  calls->io(vcpu, KVM_SET_MSRS, state.msrs.get(), "KVM_SET_MSRS");
  calls->io(vcpu, KVM_SET_LAPIC, &state.lapic, "KVM_SET_LAPIC");
  calls->io(vcpu, KVM_SET_VCPU_EVENTS, &state.events, "KVM_SET_VCPU_EVENTS");
  calls->io(vcpu, KVM_SET_DEBUGREGS, &state.debugregs, "KVM_SET_DEBUGREGS");
  calls->io(vcpu, KVM_SET_REGS, &state.regs, "KVM_SET_REGS");
  calls->io(vcpu, KVM_SET_MP_STATE, &state.mp_state, "KVM_SET_MP_STATE");
}

// 64-bit mode at kCode, the first GiB mapped to itself in 2 MiB pages.
void enter(Machine* machine, Calls* calls) {
  auto* bytes = static_cast<uint8_t*>(machine->memory);
  std::array<uint64_t, 3 * 512> tables = {};
  tables[0] = (kPageTables + 0x1000) | 3;
  tables[512] = (kPageTables + 0x2000) | 3;
  for (uint64_t i = 0; i < 512; ++i) {
    tables[1024 + i] = i << 21 | 0x83;
  }
  std::memcpy(bytes + kPageTables, tables.data(), sizeof tables);
  std::memcpy(bytes + kCode, kProgram.data(), kProgram.size());
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

void save(const FloorTemplate& floor, const Machine& machine, Calls* calls) {
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

FloorTemplatePtr make_floor_template(uint64_t memory_bytes, FloorResult* why) {
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
  Machine machine;
  FloorResult unused;
  make_vm(*floor, MAP_SHARED, &machine, &calls, &unused);
  if (calls.ok()) {
    enter(&machine, &calls);
    save(*floor, machine, &calls);
  }
  destroy(*floor, &machine);
  calls.note("F_ADD_SEALS",
             ::fcntl(floor->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
  return calls.ok() ? std::move(floor) : nullptr;
}

FloorResult floor_fork_once(const FloorTemplate& floor) {
  FloorResult result;
  Calls calls(&result);
  Machine machine;
  const uint64_t start = now_ns();
  make_vm(floor, MAP_PRIVATE, &machine, &calls, &result);
  const uint64_t made = now_ns();
  restore(floor, machine, &calls);
  const uint64_t restored = now_ns();
  calls.io(machine.vcpu, KVM_RUN, 0, "KVM_RUN");
  const uint64_t exited = now_ns();
  const auto* run = static_cast<const kvm_run*>(machine.run);
  if (calls.ok() && (run->exit_reason != KVM_EXIT_IO || run->io.port != 0x500)) {
    calls.note("the guest's first exit is its port write", -1);
  }
  destroy(floor, &machine);
  result.restore_ns = restored - made;
  result.run_ns = exited - restored;
  result.total_ns = exited - start;
  result.teardown_ns = now_ns() - exited;
  return result;
}

}  // namespace ramet::bench
