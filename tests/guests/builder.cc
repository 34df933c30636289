#include "tests/guests/builder.h"

#include <algorithm>
#include <stdexcept>

#include "tests/support/guest_code.h"
#include "vmm/kvm/kvm_abi.h"

namespace ramet::testing {
namespace {

using virtio::Descriptor;
namespace reg = virtio::reg;

constexpr uint64_t kErrorCodeHandler = kHostileHandlers;
constexpr uint64_t kFaultHandler = kHostileHandlers + 0x40;
constexpr uint64_t kInterruptHandler = kHostileHandlers + 0x80;

// Exceptions are skipped with their instruction, which has two bytes in every guest that means to
// raise one (rdmsr, wrmsr, ud2); interrupts are acknowledged.
std::vector<uint8_t> fault_handler(bool has_error_code) {
  Assembler code;
  if (has_error_code) {
    code.bytes({0x48, 0x83, 0xc4, 0x08});  // add rsp, 8
  }
  code.bytes({0x48, 0x83, 0x04, 0x24, 0x02, 0x48, 0xcf});  // add qword [rsp], 2; iretq
  return {code.code().begin(), code.code().end()};
}

std::vector<uint8_t> interrupt_handler() {
  Assembler code;
  code.bytes({0x50, 0x57});  // push rax; push rdi
  code.store32(x86::kLocalApicAddress + 0xb0, 0);
  code.bytes({0x5f, 0x58, 0x48, 0xcf});  // pop rdi; pop rax; iretq
  return {code.code().begin(), code.code().end()};
}

// Intel SDM 3A, table 6-1.
bool has_error_code(int vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

// Interrupt gates (Intel SDM 3A, figure 6-8).
std::vector<uint64_t> interrupt_table(uint16_t code_selector) {
  std::vector<uint64_t> table;
  for (int vector = 0; vector < 256; ++vector) {
    const uint64_t handler = vector >= 32             ? kInterruptHandler
                             : has_error_code(vector) ? kErrorCodeHandler
                                                      : kFaultHandler;
    table.push_back((handler & 0xffff) | (uint64_t{code_selector} << 16) | (uint64_t{0x8e} << 40) |
                    ((handler & 0xffff0000) << 32));
    table.push_back(handler >> 32);
  }
  return table;
}

Status write_bytes(const GuestMemory& memory, uint64_t address, std::span<const uint8_t> bytes) {
  return memory.write(GuestAddr{address}, std::as_bytes(bytes));
}

}  // namespace

void GuestBuilder::put(uint64_t address, std::span<const std::byte> bytes) {
  patches_.push_back({address, {bytes.begin(), bytes.end()}});
}

void GuestBuilder::stop(uint32_t index) {
  cpu(index).interrupts_off();
  cpu(index).forever([&] { cpu(index).halt(); });
}

void GuestBuilder::descriptor(const Ring& ring, uint16_t index, const Descriptor& descriptor) {
  put_object(ring.desc() + uint64_t{index} * sizeof(Descriptor), descriptor);
}

void GuestBuilder::available(const Ring& ring, uint16_t place, uint16_t head) {
  put_object(ring.avail() + virtio::kRingEntries + uint64_t{2} * place, head);
}

void GuestBuilder::all_available(const Ring& ring, uint16_t heads) {
  for (uint16_t i = 0; i < ring.size; ++i) {
    available(ring, i, static_cast<uint16_t>(i % heads));
  }
}

void GuestBuilder::negotiate(uint32_t slot, uint64_t features) {
  Assembler& code = cpu();
  const auto write = [&](uint64_t offset, uint32_t value) {
    code.store32(device_register(slot, offset), value);
  };
  write(reg::kStatus, 0);
  write(reg::kStatus, virtio::kStatusAcknowledge);
  write(reg::kStatus, virtio::kStatusAcknowledge | virtio::kStatusDriver);
  for (uint32_t half = 0; half < 2; ++half) {
    write(reg::kDriverFeaturesSel, half);
    write(reg::kDriverFeatures, static_cast<uint32_t>(features >> (32 * half)));
  }
  write(reg::kStatus,
        virtio::kStatusAcknowledge | virtio::kStatusDriver | virtio::kStatusFeaturesOk);
}

void GuestBuilder::set_up(const Ring& ring) {
  set_up_at(ring.slot, ring.queue, {ring.size, ring.desc(), ring.avail(), ring.used()});
}

void GuestBuilder::set_up_at(uint32_t slot, uint32_t queue, const Place& place) {
  const auto write = [&](uint64_t offset, uint64_t value) {
    cpu().store32(device_register(slot, offset), static_cast<uint32_t>(value));
  };
  write(reg::kQueueSel, queue);
  write(reg::kQueueNum, place.size);
  write(reg::kQueueDescLow, place.desc);
  write(reg::kQueueDescHigh, place.desc >> 32);
  write(reg::kQueueDriverLow, place.avail);
  write(reg::kQueueDriverHigh, place.avail >> 32);
  write(reg::kQueueDeviceLow, place.used);
  write(reg::kQueueDeviceHigh, place.used >> 32);
  write(reg::kQueueReady, 1);
}

void GuestBuilder::driver_ok(uint32_t slot) {
  cpu().store32(device_register(slot, reg::kStatus),
                virtio::kStatusAcknowledge | virtio::kStatusDriver | virtio::kStatusFeaturesOk |
                    virtio::kStatusDriverOk);
}

void GuestBuilder::bring_up(std::initializer_list<Ring> rings) {
  const uint32_t slot = rings.begin()->slot;
  negotiate(slot);
  for (const Ring& ring : rings) {
    cpu().store(ring.avail(), 0, 4);
    cpu().store(ring.used(), 0, 4);
    set_up(ring);
  }
  driver_ok(slot);
}

void GuestBuilder::submit(const Ring& ring, uint16_t chains) {
  cpu().add16(ring.avail_index(), chains);
  cpu().store32(device_register(ring.slot, reg::kQueueNotify), ring.queue);
}

void GuestBuilder::wait_needs_reset(uint32_t slot) {
  cpu().wait_bits(device_register(slot, reg::kStatus), virtio::kStatusNeedsReset);
}

Status GuestBuilder::start_processor(Machine* machine, uint32_t index) const {
  if (index > 0) {
    // Without INIT and SIPI: it would begin in real mode.
    RAMET_RETURN_IF_ERROR(machine->with_vcpu(index, [](Vcpu& target) {
      RAMET_ASSIGN_OR_RETURN(VcpuState state, target.save());
      state.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
      return target.restore(state);
    }));
  }
  return enter_program(*machine, index, [&](VcpuRegisters& registers) {
    registers.general.rip = kHostileCode + kHostileCodeRoom * index;
    registers.general.rbx = 0x9e37'79b9'7f4a'7c15 + index;
    if (!has_table_) {
      registers.special.idt.limit = 0;
    }
  });
}

Status GuestBuilder::place(Machine* machine) const {
  const GuestMemory& memory = machine->memory();
  RAMET_RETURN_IF_ERROR(memory.write({x86::kBootGdtAddress}, x86::build_boot_gdt()));
  RAMET_RETURN_IF_ERROR(memory.write({x86::kBootPageTablesAddress}, x86::build_boot_page_tables()));
  const auto table = interrupt_table(program_entry().cs.selector);
  RAMET_RETURN_IF_ERROR(memory.write({kGuestIdt}, std::as_bytes(std::span(table))));
  RAMET_RETURN_IF_ERROR(write_bytes(memory, kErrorCodeHandler, fault_handler(true)));
  RAMET_RETURN_IF_ERROR(write_bytes(memory, kFaultHandler, fault_handler(false)));
  RAMET_RETURN_IF_ERROR(write_bytes(memory, kInterruptHandler, interrupt_handler()));
  for (const Patch& patch : patches_) {
    RAMET_RETURN_IF_ERROR(memory.write(GuestAddr{patch.address}, patch.bytes));
  }
  for (uint32_t index = 0; index < machine->vcpus(); ++index) {
    if (cpus_[index].code().size() > kHostileCodeRoom) {
      throw std::logic_error("a hostile guest's code does not fit its room");
    }
    RAMET_RETURN_IF_ERROR(
        write_bytes(memory, kHostileCode + kHostileCodeRoom * index, cpus_[index].code()));
    RAMET_RETURN_IF_ERROR(start_processor(machine, index));
  }
  return Status();
}

}  // namespace ramet::testing
