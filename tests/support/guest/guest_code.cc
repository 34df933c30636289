#include "tests/support/guest_code.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "vmm/machine/policy_facts.h"

#define RAMET_GUEST(name)                          \
  extern "C" const std::byte ramet_guest_##name[]; \
  extern "C" const std::byte ramet_guest_##name##_end[]
RAMET_GUEST(pio);
RAMET_GUEST(mmio);
RAMET_GUEST(count);
RAMET_GUEST(stream);
RAMET_GUEST(hello);
RAMET_GUEST(halt);
RAMET_GUEST(triple_fault);
RAMET_GUEST(irq);
RAMET_GUEST(timer);
RAMET_GUEST(sipi);
RAMET_GUEST(clock);
RAMET_GUEST(dirty);
RAMET_GUEST(ap);
extern "C" const std::byte ramet_guest_irq_irq[];
extern "C" const std::byte ramet_guest_timer_irq[];

namespace ramet::testing {
namespace {

ProgramBytes between(const std::byte* start, const std::byte* end,
                     const std::byte* handler = nullptr) {
  return {.code = {start, static_cast<size_t>(end - start)},
          .handler = handler == nullptr ? 0 : static_cast<uint64_t>(handler - start)};
}

// An interrupt gate (Intel SDM 3A, figure 6-8) for every vector, all to one handler.
std::vector<uint64_t> interrupt_table(uint64_t handler, uint16_t code_selector) {
  std::vector<uint64_t> table;
  for (int vector = 0; vector < 256; ++vector) {
    table.push_back((handler & 0xffff) | (uint64_t{code_selector} << 16) | (uint64_t{0x8e} << 40) |
                    ((handler & 0xffff0000) << 32));
    table.push_back(handler >> 32);
  }
  return table;
}

constexpr uint16_t kIdtLimit = 256 * 16 - 1;

}  // namespace

#define RAMET_BETWEEN(name) between(ramet_guest_##name, ramet_guest_##name##_end)

ProgramBytes program_bytes(Program program) {
  switch (program) {
    case Program::kPio:
      return RAMET_BETWEEN(pio);
    case Program::kMmio:
      return RAMET_BETWEEN(mmio);
    case Program::kCount:
      return RAMET_BETWEEN(count);
    case Program::kStream:
      return RAMET_BETWEEN(stream);
    case Program::kHello:
      return RAMET_BETWEEN(hello);
    case Program::kHalt:
      return RAMET_BETWEEN(halt);
    case Program::kTripleFault:
      return RAMET_BETWEEN(triple_fault);
    case Program::kIrq:
      return between(ramet_guest_irq, ramet_guest_irq_end, ramet_guest_irq_irq);
    case Program::kTimer:
      return between(ramet_guest_timer, ramet_guest_timer_end, ramet_guest_timer_irq);
    case Program::kSipi:
      return RAMET_BETWEEN(sipi);
    case Program::kClock:
      return RAMET_BETWEEN(clock);
    case Program::kDirty:
      return RAMET_BETWEEN(dirty);
    case Program::kAp:
      break;
  }
  return RAMET_BETWEEN(ap);
}

Status load_program(const GuestMemory& memory, Program program) {
  const ProgramBytes bytes = program_bytes(program);
  RAMET_RETURN_IF_ERROR(memory.write({x86::kBootGdtAddress}, x86::build_boot_gdt()));
  RAMET_RETURN_IF_ERROR(memory.write({x86::kBootPageTablesAddress}, x86::build_boot_page_tables()));
  RAMET_RETURN_IF_ERROR(memory.write({kGuestApCode}, program_bytes(Program::kAp).code));
  if (bytes.handler != 0) {
    const auto table = interrupt_table(kGuestCode + bytes.handler, program_entry().cs.selector);
    RAMET_RETURN_IF_ERROR(memory.write({kGuestIdt}, std::as_bytes(std::span(table))));
  }
  return memory.write({kGuestCode}, bytes.code);
}

x86::EntryState program_entry() { return x86::build_entry_state(kGuestCode); }

std::vector<MemoryRegion> small_regions(uint64_t bytes) {
  return {{.start = {0}, .size = bytes, .file_offset = 0}};
}

void Recorder::note(const Access& access) {
  const std::lock_guard lock(mutex_);
  if (keep_) {
    accesses_.push_back(access);
  }
  if (access.is_write) {
    ++writes_[std::min<uint64_t>(access.offset, writes_.size() - 1)];
    seen_.notify_all();
  }
}

void Recorder::bus_read(uint64_t offset, std::span<std::byte> data) {
  Access access{.offset = offset, .size = static_cast<uint32_t>(data.size())};
  Answer answer;
  {
    const std::lock_guard lock(mutex_);
    answer = answer_;
  }
  access.value = answer ? answer(access) : 0;
  std::memcpy(data.data(), &access.value, std::min(data.size(), sizeof access.value));
  note(access);
}

void Recorder::bus_write(uint64_t offset, std::span<const std::byte> data) {
  Access access{.offset = offset, .is_write = true, .size = static_cast<uint32_t>(data.size())};
  std::memcpy(&access.value, data.data(), std::min(data.size(), sizeof access.value));
  OnWrite on_write;
  {
    const std::lock_guard lock(mutex_);
    on_write = on_write_;
  }
  if (on_write) {
    on_write(access);
  }
  note(access);
}

void Recorder::set_answer(Answer answer) {
  const std::lock_guard lock(mutex_);
  answer_ = std::move(answer);
}

void Recorder::set_on_write(OnWrite on_write) {
  const std::lock_guard lock(mutex_);
  on_write_ = std::move(on_write);
}

std::vector<Access> Recorder::accesses() const {
  const std::lock_guard lock(mutex_);
  return accesses_;
}

size_t Recorder::writes(uint64_t offset) const {
  const std::lock_guard lock(mutex_);
  return writes_.at(offset);
}

bool Recorder::wait_writes(uint64_t offset, size_t count, std::chrono::milliseconds limit) const {
  std::unique_lock lock(mutex_);
  return seen_.wait_for(lock, limit, [&] { return writes_.at(offset) >= count; });
}

void Recorder::clear() {
  const std::lock_guard lock(mutex_);
  accesses_.clear();
  std::fill(writes_.begin(), writes_.end(), 0);
}

void Recorder::count_only() {
  const std::lock_guard lock(mutex_);
  keep_ = false;
}

uint64_t Box::data(uint64_t offset) {
  const auto value = memory().read_object<uint64_t>({kGuestData + offset});
  return value.ok() ? *value : ~uint64_t{0};
}

std::vector<x86::CpuidEntry> host_baseline(const Kvm& kvm) {
  return x86::baseline(kvm.supported_cpuid(), {});
}

Status enter_program(Machine& machine, uint32_t vcpu,
                     const std::function<void(VcpuRegisters&)>& change) {
  return machine.with_vcpu(vcpu, [&](Vcpu& target) {
    RAMET_RETURN_IF_ERROR(target.set_entry(program_entry()));
    RAMET_ASSIGN_OR_RETURN(VcpuRegisters registers, target.registers());
    registers.general.rsp = kGuestStack - 0x4000 * vcpu;
    registers.special.idt.base = kGuestIdt;
    registers.special.idt.limit = kIdtLimit;
    if (change) {
      change(registers);
    }
    return target.set_registers(registers);
  });
}

Status insert_recorders(Box* box) {
  RAMET_RETURN_IF_ERROR(box->machine->pio().insert(kPortBase, kPortRoom, box->ports.get()));
  return box->machine->mmio().insert(kGuestMmio, kGuestMmioBytes, box->mmio.get());
}

jail::Jail* shared_jail() {
  static const auto jail =
      jail::Jail::create({.required = true, .facts = machine_policy_facts(), .max_idle = 0});
  if (!jail.ok()) {
    throw std::runtime_error(jail.status().ToString());
  }
  return jail->get();
}

StatusOr<Box> make_box(std::shared_ptr<const Kvm> kvm, Program program, const BoxOptions& options) {
  Box box;
  box.kvm = kvm;
  RAMET_ASSIGN_OR_RETURN(box.memfd, create_memfd("ramet-test", options.memory_bytes));
  RAMET_ASSIGN_OR_RETURN(
      auto memory,
      GuestMemory::create(box.memfd.get(), small_regions(options.memory_bytes), MapMode::kShared));
  RAMET_RETURN_IF_ERROR(load_program(*memory, program));
  RAMET_ASSIGN_OR_RETURN(box.machine, Machine::create({kvm, shared_jail()}, std::move(memory),
                                                      options.vcpus, host_baseline(*kvm)));
  RAMET_RETURN_IF_ERROR(insert_recorders(&box));
  const bool has_table = program_bytes(program).handler != 0;
  RAMET_RETURN_IF_ERROR(enter_program(*box.machine, 0, [&](VcpuRegisters& registers) {
    if (!has_table) {
      registers.special.idt = {};
    }
    if (options.registers) {
      options.registers(registers);
    }
  }));
  return box;
}

StatusOr<Box> fork_box(std::shared_ptr<const Kvm> kvm, const MemoryImage& image,
                       const MachineState& state) {
  Box box;
  box.kvm = kvm;
  RAMET_ASSIGN_OR_RETURN(auto memory,
                         GuestMemory::create(image.view(), state.regions, MapMode::kPrivate));
  RAMET_ASSIGN_OR_RETURN(box.machine,
                         Machine::restore({kvm, shared_jail()}, std::move(memory), state));
  RAMET_RETURN_IF_ERROR(box.machine->restore_time(state));
  RAMET_RETURN_IF_ERROR(insert_recorders(&box));
  return box;
}

StatusOr<std::shared_ptr<const MemoryImage>> freeze_box(Box box) {
  const uint64_t bytes = box.memory().total_bytes();
  box.machine.reset();
  return MemoryImage::freeze(std::move(box.memfd), bytes);
}

}  // namespace ramet::testing
