// Save, restore and fork: register state bit for bit, clocks that never go back, memory that nobody
// else sees.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/kvm/need_kvm.h"
#include "tests/support/guest_code.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

// Offsets of the LAPIC's registers (Intel SDM 3A, table 11-1).
constexpr size_t kLapicTimerCount = 0x390;

struct Snapshot {
  MachineState state;
  std::shared_ptr<const MemoryImage> image;
};

VcpuState& first(MachineState& state) { return state.vcpus[0]; }

template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

uint64_t msr_of(const VcpuState& state, uint32_t index) {
  for (const Msr& msr : state.msrs) {
    if (msr.index == index) {
      return msr.value;
    }
  }
  return 0;
}

// Everything but the TSC and the LAPIC's running count, which must not go back.
void check_same(const VcpuState& before, const VcpuState& after) {
  CHECK(same_bytes(before.registers.general, after.registers.general));
  CHECK(same_bytes(before.registers.special, after.registers.special));
  CHECK(same_bytes(before.xcrs, after.xcrs));
  CHECK(before.xsave == after.xsave);
  CHECK(before.msrs == after.msrs);
  kvm_lapic_state a = before.lapic;
  kvm_lapic_state b = after.lapic;
  std::memset(a.regs + kLapicTimerCount, 0, 4);
  std::memset(b.regs + kLapicTimerCount, 0, 4);
  CHECK(same_bytes(a, b));
  CHECK(same_bytes(before.events, after.events));
  CHECK(same_bytes(before.debugregs, after.debugregs));
  CHECK(same_bytes(before.mp_state, after.mp_state));
  CHECK(before.tsc_deadline == after.tsc_deadline);
  CHECK(after.tsc >= before.tsc);
}

// Values in every register that a guest at CPL 0 can have them in.
void fill_state(VcpuState* state) {
  kvm_regs& regs = state->registers.general;
  uint64_t value = 0x0101010101010101;
  for (__u64* reg :
       {&regs.rax, &regs.rbx, &regs.rcx, &regs.rdx, &regs.rsi, &regs.rdi, &regs.rbp, &regs.r8,
        &regs.r9, &regs.r10, &regs.r11, &regs.r12, &regs.r13, &regs.r14, &regs.r15}) {
    *reg = value += 0x0101010101010101;
  }
  regs.rflags |= 0xd5;  // CF, PF, AF, ZF, SF
  state->registers.special.cr2 = 0xdeadbeef000;
  state->registers.special.fs.base = 0x123456789000;
  state->registers.special.gs.base = 0x223456789000;
  state->debugregs.db[0] = 0x1000;
  state->debugregs.db[3] = 0x4000;
  // Legacy area: FCW, MXCSR, ST0, XMM0 and XMM15; the header says x87 and SSE are there (Intel SDM
  // 1, 13.4).
  auto put = [&](size_t at, uint64_t word) { std::memcpy(state->xsave.data() + at, &word, 8); };
  const uint16_t fcw = 0x27f;
  std::memcpy(state->xsave.data(), &fcw, 2);
  const uint32_t mxcsr = 0x1fa0;
  std::memcpy(state->xsave.data() + 24, &mxcsr, 4);
  put(160, 0xaaaaaaaabbbbbbbb);
  put(168, 0xccccccccdddddddd);
  put(160 + 15 * 16, 0x1122334455667788);
  put(512, 3);
  for (Msr& msr : state->msrs) {
    switch (msr.index) {
      case 0xc0000082:  // LSTAR
        msr.value = 0xffffffff81000000;
        break;
      case 0xc0000081:  // STAR
        msr.value = 0x0023001000000000;
        break;
      case 0xc0000102:  // KERNEL_GS_BASE
        msr.value = 0x7fff12345000;
        break;
      case 0x174:  // SYSENTER_CS
        msr.value = 0x10;
        break;
      case 0x277:  // PAT
        msr.value = 0x0407050600070106;
        break;
      default:
        break;
    }
  }
  // One register under three names: TPR, what PPR follows from, and CR8 (Intel SDM 3A, 11.8.6).
  const uint32_t task_priority = 0x30;
  std::memcpy(state->lapic.regs + 0x80, &task_priority, 4);
  std::memcpy(state->lapic.regs + 0xa0, &task_priority, 4);
  state->registers.special.cr8 = task_priority >> 4;
}

Snapshot snapshot_of(Box box) {
  auto state = box.machine->save();
  INFO(state.status().ToString());
  REQUIRE(state.ok());
  auto image = freeze_box(std::move(box));
  REQUIRE(image.ok());
  return {std::move(*state), std::move(*image)};
}

uint64_t rbx_of(const MachineState& state, size_t vcpu) {
  return state.vcpus[vcpu].registers.general.rbx;
}

// Runs the machine, on a slow host as long as it takes, until every vCPU has counted beyond its
// number in `from` and the first has stored it; leaves it paused.
void run_beyond(Box& box, const std::vector<uint64_t>& from) {
  const uint64_t deadline = monotonic_ns() + 30'000'000'000;
  bool moved = false;
  while (!moved && monotonic_ns() < deadline) {
    REQUIRE(box.machine->resume().ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    REQUIRE(box.machine->pause().ok());
    const auto state = box.machine->save();
    REQUIRE(state.ok());
    moved = box.data() > from[0];
    for (size_t vcpu = 0; vcpu < from.size(); ++vcpu) {
      moved = moved && rbx_of(*state, vcpu) > from[vcpu];
    }
  }
  REQUIRE(moved);
}

// A counting guest that ran a little and is paused.
Snapshot counting(const std::shared_ptr<const Kvm>& kvm) {
  auto box = make_box(kvm, Program::kCount);
  REQUIRE(box.ok());
  run_beyond(*box, {0});
  return snapshot_of(std::move(*box));
}

std::vector<std::byte> all_of(const MemoryImage& image) {
  std::vector<std::byte> bytes(image.size());
  REQUIRE(image.read(0, bytes).ok());
  return bytes;
}

}  // namespace

TEST_CASE(
    "a fork has every register of the saved vCPU bit for bit, and its clocks go on from there") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  // Twice: as the guest left it, and with a value of our own in every register.
  for (const bool filled : {false, true}) {
    if (filled) {
      fill_state(&first(saved.state));
    }
    auto fork = fork_box(kvm, *saved.image, saved.state);
    INFO(fork.status().ToString());
    REQUIRE(fork.ok());
    auto again = fork->machine->save();
    REQUIRE(again.ok());
    check_same(first(saved.state), first(*again));
    CHECK(again->clock_ns >= saved.state.clock_ns);
    CHECK(again->clock_ns < saved.state.clock_ns + 5'000'000'000);
    CHECK(first(*again).tsc < first(saved.state).tsc + uint64_t{saved.state.tsc_khz} * 5'000);
    CHECK(again->tsc_khz == saved.state.tsc_khz);
    CHECK(again->cpuid == saved.state.cpuid);
    CHECK(again->ioapic == saved.state.ioapic);
    CHECK(again->regions == saved.state.regions);
    if (filled) {
      CHECK(msr_of(first(*again), 0xc0000082) == 0xffffffff81000000);
    }
  }
}

TEST_CASE("a fork of a fork of a fork has the same registers still, through the file's bytes") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  fill_state(&first(saved.state));
  MachineState state = saved.state;
  for (int generation = 0; generation < 5; ++generation) {
    const auto file = encode_sections(to_sections(state));
    const auto sections = parse_sections(file);
    REQUIRE(sections.ok());
    auto decoded = machine_state_from(*sections);
    REQUIRE(decoded.ok());
    CHECK(encode_sections(to_sections(*decoded)) == file);
    auto fork = fork_box(kvm, *saved.image, *decoded);
    REQUIRE(fork.ok());
    auto next = fork->machine->save();
    REQUIRE(next.ok());
    check_same(first(state), first(*next));
    state = std::move(*next);
  }
}

TEST_CASE("a fork goes on exactly where its template was paused") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  const uint64_t rbx = first(saved.state).registers.general.rbx;
  auto fork = fork_box(kvm, *saved.image, saved.state);
  REQUIRE(fork.ok());
  CHECK(rbx - fork->data() <= 1);
  run_beyond(*fork, {rbx});
}

namespace {

// Has the IOAPIC's pin 0 send vCPU 0 a message of this delivery mode (82093AA, 3.2.4).
void send(Machine* machine, uint32_t delivery_mode) {
  const auto write = [&](uint32_t at, uint32_t value) {
    REQUIRE(machine->mmio().write(x86::kIoApicAddress + at, std::as_bytes(std::span(&value, 1))));
  };
  write(0, 0x10);  // IOREGSEL: the low half of the pin's entry
  write(0x10, 0x10 | delivery_mode << 8);
  machine->irq(0).trigger();
}
constexpr uint32_t kInit = 5;
constexpr uint32_t kStartUp = 6;

}  // namespace

TEST_CASE("a machine that is rewound is bit for bit what it was restored as, whatever ran in it") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  const auto memory = all_of(*saved.image);
  const uint64_t rbx = rbx_of(saved.state, 0);
  auto fork = fork_box(kvm, *saved.image, saved.state);
  REQUIRE(fork.ok());
  Machine& machine = *fork->machine;
  // Paused where it was, with another value in every register, ended, and with an INIT and a SIPI
  // that it has not taken.
  for (const int turn : {0, 1, 2, 3, 4}) {
    run_beyond(*fork, {rbx});
    if (turn == 1) {
      MachineState other = saved.state;
      fill_state(&first(other));
      REQUIRE(machine.with_vcpu(0, [&](Vcpu& vcpu) { return vcpu.restore(first(other)); }).ok());
    }
    if (turn == 2) {
      machine.stop();
    }
    if (turn > 2) {
      send(&machine, turn == 3 ? kInit : kStartUp);
    }
    const Status rewound = machine.rewind(saved.state);
    INFO("turn " << turn << ": " << rewound.ToString());
    REQUIRE(rewound.ok());
    CHECK_FALSE(machine.end());
    CHECK(machine.exits() == 0);
    std::vector<std::byte> bytes(memory.size());
    REQUIRE(fork->memory().read(GuestAddr{0}, bytes).ok());
    CHECK((bytes == memory));
    REQUIRE(machine.restore_time(saved.state).ok());
    auto again = machine.save();
    REQUIRE(again.ok());
    check_same(first(saved.state), first(*again));
    CHECK(again->ioapic == saved.state.ioapic);
    REQUIRE(insert_recorders(&*fork).ok());
  }
  run_beyond(*fork, {rbx});
}

TEST_CASE("the guest's TSC never goes back over save, fork and resume") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kClock);
  REQUIRE(box.ok());
  box->ports->count_only();
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(0, 10));
  REQUIRE(box->machine->pause().ok());
  uint64_t last = box->data();
  REQUIRE(last > 0);
  Snapshot saved = snapshot_of(std::move(*box));
  CHECK(first(saved.state).tsc >= last);
  for (int i = 0; i < 3; ++i) {
    auto fork = fork_box(kvm, *saved.image, saved.state);
    REQUIRE(fork.ok());
    fork->ports->count_only();
    REQUIRE(fork->machine->resume().ok());
    REQUIRE(fork->ports->wait_writes(0, 10));
    REQUIRE(fork->machine->pause().ok());
    INFO("template " << last << " saved " << first(saved.state).tsc << " fork " << fork->data());
    CHECK(fork->data() >= first(saved.state).tsc);
    CHECK(fork->data() < last + uint64_t{saved.state.tsc_khz} * 10'000);
  }
}

TEST_CASE("ten forks at once: each its own memory, and the template's bytes do not change") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  const auto before = all_of(*saved.image);
  std::vector<Box> forks;
  for (int i = 0; i < 10; ++i) {
    auto fork = fork_box(kvm, *saved.image, saved.state);
    REQUIRE(fork.ok());
    forks.push_back(std::move(*fork));
  }
  for (Box& fork : forks) {
    REQUIRE(fork.machine->resume().ok());
  }
  const uint64_t rbx = rbx_of(saved.state, 0);
  const uint64_t deadline = monotonic_ns() + 60'000'000'000;
  while (monotonic_ns() < deadline &&
         std::any_of(forks.begin(), forks.end(), [&](Box& fork) { return fork.data() <= rbx; })) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (Box& fork : forks) {
    REQUIRE(fork.machine->pause().ok());
  }
  for (size_t i = 0; i < forks.size(); ++i) {
    const uint64_t own = forks[i].data();
    CHECK(own > rbx);
    // A mark in one fork's memory is in no other's.
    REQUIRE(forks[i]
                .memory()
                .write_object(GuestAddr{kGuestData + 0x100 + 8 * i}, uint64_t{i + 1})
                .ok());
  }
  for (size_t i = 0; i < forks.size(); ++i) {
    for (size_t other = 0; other < forks.size(); ++other) {
      CHECK(forks[i].data(0x100 + 8 * other) == (i == other ? i + 1 : 0));
    }
  }
  CHECK(all_of(*saved.image) == before);
  // Going back to the template's memory is one call.
  REQUIRE(forks[0].memory().drop_private().ok());
  CHECK(rbx - forks[0].data() <= 1);
  CHECK(forks[1].data() > rbx);
}

TEST_CASE("a template of two vCPUs forks with both, at one TSC") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kCount, {.vcpus = 2});
  REQUIRE(box.ok());
  REQUIRE(box->machine
              ->with_vcpu(1,
                          [](Vcpu& vcpu) {
                            RAMET_ASSIGN_OR_RETURN(VcpuState state, vcpu.save());
                            state.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
                            return vcpu.restore(state);
                          })
              .ok());
  REQUIRE(enter_program(*box->machine, 1).ok());
  run_beyond(*box, {0, 0});
  Snapshot saved = snapshot_of(std::move(*box));
  REQUIRE(saved.state.vcpus.size() == 2);
  CHECK(saved.state.vcpus[0].tsc == saved.state.vcpus[1].tsc);
  auto fork = fork_box(kvm, *saved.image, saved.state);
  INFO(fork.status().ToString());
  REQUIRE(fork.ok());
  REQUIRE(fork->machine->vcpus() == 2);
  auto again = fork->machine->save();
  REQUIRE(again.ok());
  check_same(saved.state.vcpus[0], again->vcpus[0]);
  check_same(saved.state.vcpus[1], again->vcpus[1]);
  run_beyond(*fork, {rbx_of(saved.state, 0), rbx_of(saved.state, 1)});
}

TEST_CASE("a TSC deadline that is armed at the save fires in the fork, and only then") {
  RAMET_NEED_KVM(kvm);
  if (kvm->capability(KVM_CAP_TSC_DEADLINE_TIMER) == 0) {
    RAMET_SKIP("this KVM has no TSC deadline timer");
  }
  constexpr uint64_t kAhead = 3'000'000'000;  // cycles: about a second
  auto box =
      make_box(kvm, Program::kTimer,
               {.registers = [](VcpuRegisters& registers) { registers.general.rbp = kAhead; }});
  REQUIRE(box.ok());
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(0, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // asleep
  REQUIRE(box->machine->pause().ok());
  REQUIRE(box->ports->writes(kPortIrq - kPortBase) == 0);
  Snapshot saved = snapshot_of(std::move(*box));
  const uint64_t deadline = first(saved.state).tsc_deadline;
  REQUIRE(deadline != 0);
  REQUIRE(deadline > first(saved.state).tsc);
  for (int i = 0; i < 2; ++i) {
    auto fork = fork_box(kvm, *saved.image, saved.state);
    REQUIRE(fork.ok());
    REQUIRE(fork->machine->resume().ok());
    REQUIRE(fork->ports->wait_writes(kPortIrq - kPortBase, 1, std::chrono::seconds(60)));
    REQUIRE(fork->machine->pause().ok());
    CHECK(fork->data() >= deadline);
    const auto after = fork->machine->save();
    REQUIRE(after.ok());
    CHECK(after->vcpus[0].tsc_deadline == 0);
  }
}

TEST_CASE("a SIPI that is pending at the save is in the saved registers, not lost between them") {
  RAMET_NEED_KVM(kvm);
  auto fd = create_memfd("ramet-test", kGuestMemoryBytes);
  REQUIRE(fd.ok());
  const auto memory = GuestMemory::create(fd->get(), small_regions(), MapMode::kShared);
  REQUIRE(memory.ok());
  REQUIRE(load_program(**memory, Program::kSipi).ok());
  const auto vm = Vm::create(kvm);
  REQUIRE(vm.ok());
  REQUIRE((*vm)->set_memory(**memory).ok());
  std::vector<std::unique_ptr<Vcpu>> vcpus;
  for (uint32_t id = 0; id < 2; ++id) {
    auto vcpu = Vcpu::create(**vm, id);
    REQUIRE(vcpu.ok());
    REQUIRE((*vcpu)->set_cpuid(x86::for_vcpu(host_baseline(*kvm), id, 2)).ok());
    vcpus.push_back(std::move(*vcpu));
  }
  REQUIRE(vcpus[0]->set_entry(program_entry()).ok());
  // vCPU 0 sends INIT and SIPI; vCPU 1 never runs.
  for (int i = 0; i < 100; ++i) {
    const auto exit = vcpus[0]->run();
    REQUIRE(exit.ok());
    if (exit->kind == ExitKind::kPio) {
      break;
    }
    REQUIRE(exit->kind == ExitKind::kInterrupted);
  }
  const auto state = vcpus[1]->save();
  REQUIRE(state.ok());
  CHECK(state->mp_state.mp_state == KVM_MP_STATE_RUNNABLE);
  CHECK(state->registers.special.cs.base == kGuestApCode);
  CHECK(state->registers.general.rip == 0);
}

TEST_CASE("a state that this host's KVM refuses is a Status that says what it refused") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  const auto refused = [&](const std::function<void(MachineState&)>& change) {
    MachineState state = saved.state;
    change(state);
    const auto fork = fork_box(kvm, *saved.image, state);
    return fork.ok() ? std::string("accepted") : std::string(fork.status().ToString());
  };
  CHECK(refused([](MachineState& state) {
          first(state).xsave.resize(100);
        }).find("100 bytes of XSAVE") != std::string::npos);
  CHECK(refused([](MachineState& state) {
          first(state).msrs.push_back({.index = 0xc0000080, .value = ~uint64_t{0}});
        }).find("MSR 0xc0000080 = 0xffffffffffffffff") != std::string::npos);
  CHECK(refused([](MachineState& state) {
          first(state).registers.special.cr0 = 1;
        }).find("KVM_SET_SREGS2") != std::string::npos);
  CHECK(refused([](MachineState& state) {
          first(state).registers.special.cr4 = ~0u;
        }).find("KVM_SET_SREGS2") != std::string::npos);
  CHECK(refused([](MachineState& state) {
          first(state).mp_state.mp_state = 77;
        }).find("KVM_SET_MP_STATE") != std::string::npos);
  CHECK(refused([](MachineState& state) {
          first(state).events.flags = ~0u;
        }).find("KVM_SET_VCPU_EVENTS") != std::string::npos);
  CHECK(refused([](MachineState& state) {
          first(state).debugregs.flags = 1;
        }).find("KVM_SET_DEBUGREGS") != std::string::npos);
  CHECK(refused([](MachineState& state) { state.vcpus.clear(); }).find("snapshot of 0 vCPUs") !=
        std::string::npos);
  CHECK(refused([](MachineState& state) {
          state.vcpus.resize(9, state.vcpus[0]);
        }).find("snapshot of 9 vCPUs") != std::string::npos);
  CHECK(refused([](MachineState& state) { state.regions[0].size *= 2; }).find("memory file") !=
        std::string::npos);
  CHECK(refused([](MachineState&) {}) == "accepted");
}

TEST_CASE("a saved TSC within 250 parts in a million runs at this host's rate, another is scaled") {
  RAMET_NEED_KVM(kvm);
  const Snapshot saved = counting(kvm);
  const uint32_t here = saved.state.tsc_khz;
  const auto rate_of_fork = [&](uint32_t saved_khz) -> StatusOr<uint32_t> {
    MachineState state = saved.state;
    state.tsc_khz = saved_khz;
    RAMET_ASSIGN_OR_RETURN(const auto fork, fork_box(kvm, *saved.image, state));
    RAMET_ASSIGN_OR_RETURN(const MachineState again, fork.machine->save());
    return again.tsc_khz;
  };
  CHECK(rate_of_fork(here + here / 5000).value() == here);
  const uint32_t faster = here + here / 2000;
  const auto scaled = rate_of_fork(faster);
  if (scaled.ok()) {
    CHECK(*scaled == faster);
  } else {
    CHECK(absl::IsFailedPrecondition(scaled.status()));
  }
}

TEST_CASE("a memory that is not laid out as the saved machine's is refused") {
  RAMET_NEED_KVM(kvm);
  const Snapshot saved = counting(kvm);
  auto memory = GuestMemory::create(saved.image->fd(), small_regions(kGuestMemoryBytes / 2),
                                    MapMode::kPrivate);
  REQUIRE(memory.ok());
  const auto machine = Machine::restore({kvm, shared_jail()}, std::move(*memory), saved.state);
  CHECK(machine.status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a template of a foreign CPU is refused before any KVM call, naming what is missing") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  const auto refused = [&](const std::function<void(x86::CpuidEntry&)>& change) {
    MachineState state = saved.state;
    for (x86::CpuidEntry& entry : state.cpuid) {
      change(entry);
    }
    // The first ioctl would fail with another message.
    sys::FaultPlan plan(sys::Call::kIoctl, 1, EIO, true);
    plan.arm();
    const auto fork = fork_box(kvm, *saved.image, state);
    CHECK(plan.seen() == 0);
    CHECK(fork.status().code() == absl::StatusCode::kFailedPrecondition);
    return std::string(fork.status().message());
  };
  CHECK(refused([](x86::CpuidEntry& entry) {
          entry.ecx ^= entry.function == 0 ? 1 : 0;
        }).find("vendor") != std::string::npos);
  CHECK(refused([](x86::CpuidEntry& entry) {
          entry.eax = entry.function == 0x40000001 ? ~0u : entry.eax;
        }).find("leaf 0x40000001.0 eax") != std::string::npos);
}

TEST_CASE(
    "random damage to a state never harms the host: a Status, or a guest that ends by itself") {
  RAMET_NEED_KVM(kvm);
  Snapshot saved = counting(kvm);
  uint64_t seed = 88172645463325252;
  const auto random = [&] {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
  };
  const auto good = encode_vcpu_state(first(saved.state));
  int restored = 0;
  const int rounds = long_run() ? 2000 : 150;
  for (int i = 0; i < rounds; ++i) {
    auto bytes = good;
    for (uint64_t n = random() % 4; n < 4; ++n) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    const auto decoded = decode_vcpu_state(bytes);
    if (!decoded.ok()) {
      continue;
    }
    MachineState state = saved.state;
    first(state) = *decoded;
    auto fork = fork_box(kvm, *saved.image, state);
    if (!fork.ok()) {
      continue;
    }
    ++restored;
    fork->ports->count_only();
    REQUIRE(fork->machine->resume().ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Status paused = fork->machine->pause();
    REQUIRE((paused.ok() || fork->machine->end().has_value()));
    fork->machine->stop();
  }
  std::printf("%d of %d damaged states restored\n", restored, rounds);
  CHECK(restored > 0);
}

// Writes the fuzz target's real seeds: run by hand, after a change of the format, with `kvm_state
// "[seeds]"`.
TEST_CASE("seeds of the vmstate fuzz target", "[.seeds]") {
  RAMET_NEED_KVM(kvm);
  for (const uint32_t vcpus : {1u, 2u}) {
    auto box = make_box(kvm, Program::kHello, {.vcpus = vcpus});
    REQUIRE(box.ok());
    const auto state = box->machine->save();
    REQUIRE(state.ok());
    const auto file = encode_sections(to_sections(*state));
    std::ofstream out(
        source_dir() + "/fuzz/corpus/vmstate/machine_" + std::to_string(vcpus) + "_vcpu",
        std::ios::binary);
    out.write(reinterpret_cast<const char*>(file.data()),
              static_cast<std::streamsize>(file.size()));
    REQUIRE(out.good());
  }
}
