// Guests that abuse ports and memory-mapped registers: storms, nonsense, floods.
#include "tests/guests/guest.h"

namespace ramet::testing {
namespace {

constexpr uint32_t kWindowMask = 0x7fff;  // eight slots of a page
constexpr uint64_t kNoDevice = 0xe000'0000;
constexpr uint64_t kAboveMemory = 0x2000'0000;

void port_storm(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    code.random();
    code.out_rax_to_random_port(4);  // the power device takes single bytes only
    code.in(0xffff, 4);
    code.in(0xcf8, 2);
    guest.round();
  });
}

// The string runs out of the guest's memory and on, into MMIO.
void string_without_end(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    guest.round();
    code.bytes({0xfc, 0xbe});  // cld; mov esi, imm32
    code.immediate(kHostileMemoryBytes - 0x1000, 4);
    code.bytes({0xb9});  // mov ecx, imm32
    code.immediate(0x4000, 4);
    code.bytes({0x66, 0xba, 0x00, 0x07, 0xf3, 0x6e});  // mov dx, 0x700; rep outsb
  });
}

void mmio_storm(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      code.random_store(kNoDevice, 0xfff'ffff, size);
      code.random_load(kAboveMemory, 0xfff'ffff, size);
    }
    guest.round();
  });
}

void torn_registers(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    for (const unsigned size : {1u, 2u, 8u}) {
      code.random_store(x86::kVirtioMmioBase, kWindowMask, size);
      code.random_load(x86::kVirtioMmioBase, kWindowMask, size);
    }
    guest.round();
  });
}

void ioapic_nonsense(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    code.random_below(0xff);
    code.store_rax(x86::kIoApicAddress, 4);
    code.random();
    code.store_rax(x86::kIoApicAddress + 0x10, 4);
    code.random_store(x86::kIoApicAddress, 0xfff, 8);
    guest.round();
  });
}

void runs_a_device(GuestBuilder& guest) { guest.cpu().jump_to(x86::kVirtioMmioBase); }
void runs_nothing(GuestBuilder& guest) { guest.cpu().jump_to(kNoDevice); }

void loses_its_page_tables(GuestBuilder& guest) {
  for (uint64_t at = 0; at < x86::kBootPageTablesSize; at += 8) {
    guest.cpu().store(x86::kBootPageTablesAddress + at, ~uint64_t{0}, 8);
  }
  guest.cpu().bytes({0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8});  // mov rax, cr3; mov cr3, rax
}

void serial_flood(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    code.repeat(1000, [&] { code.out(x86::kSerialPort, 'x', 1); });
    guest.round();
  });
}

void serial_lines(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    code.repeat(1000, [&] { code.out(x86::kSerialPort, '\n', 1); });
    guest.round();
  });
}

void serial_nonsense(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    for (uint16_t port = 0; port < x86::kSerialPortSize; ++port) {
      code.random();
      code.bytes({0x66, 0xba});
      code.immediate(x86::kSerialPort + port, 2);
      code.bytes({0xee, 0xec});  // out dx, al; in al, dx
    }
    code.out(x86::kSerialPort + 6, 0xffffffff, 4);
    guest.round();
  });
}

// Every value but those that power off and reset, of every width.
void power_nonsense(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    for (uint16_t port = x86::kPowerPort; port < x86::kPowerPort + x86::kPowerPortSize; ++port) {
      for (const uint32_t value : {0u, 2u, 0x20u, 0x14u, 0xffu, 0x80u}) {
        code.out(port, value, 1);
      }
      code.out(port, 0x34343434, 4);
      code.out(port, 0x0101, 2);
      code.in(port, 4);
    }
    guest.round();
  });
}

void power_off_again_and_again(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    code.out(x86::kSleepControlPort,
             x86::kSleepEnable | (x86::kSleepTypeS5 << x86::kSleepTypeShift), 1);
    code.out(x86::kResetPort, x86::kResetValue, 1);
  });
}

void reset_by_both(GuestBuilder& guest) {
  for (uint32_t index = 0; index < 2; ++index) {
    guest.cpu(index).forever([&] { guest.cpu(index).out(x86::kResetPort, x86::kResetValue, 1); });
  }
}

// The console keeps 16 KiB, whatever was printed.
std::string console_is_bounded(Instance& instance) {
  const size_t kept = instance.console().last_lines(1'000'000).size();
  return kept <= 4 * Console::kKeptBytes ? ""
                                         : "the console keeps " + std::to_string(kept) + " bytes";
}

}  // namespace

HostileGuests bus_guests() {
  const std::vector<EndReason> kDies = {EndReason::kTripleFault, EndReason::kGuestFault};
  return {
      {.name = "writes to every port", .write = port_storm},
      {.name = "writes strings to a port from beyond its memory",
       .write = string_without_end,
       .rounds = 3},
      {.name = "reads and writes where there is no device", .write = mmio_storm},
      {.name = "touches registers in torn pieces", .write = torn_registers},
      {.name = "writes nonsense to the IOAPIC", .write = ioapic_nonsense},
      {.name = "runs code in a device", .write = runs_a_device, .promise = {.ends = kDies}},
      {.name = "runs code where there is nothing",
       .write = runs_nothing,
       .promise = {.ends = kDies}},
      {.name = "overwrites its page tables",
       .write = loses_its_page_tables,
       .promise = {.ends = kDies}},
      {.name = "prints without end and without a line's end",
       .write = serial_flood,
       .promise = {.processors = 2},  // and the embedder's listener
       .rounds = 20,
       .proof = console_is_bounded},
      {.name = "prints empty lines without end",
       .write = serial_lines,
       .promise = {.processors = 2},
       .rounds = 20,
       .proof = console_is_bounded},
      {.name = "writes nonsense to its serial port", .write = serial_nonsense},
      {.name = "writes nonsense to the power ports", .write = power_nonsense},
      {.name = "powers off again and again",
       .write = power_off_again_and_again,
       .promise = {.ends = {EndReason::kPowerOff}}},
      {.name = "resets with both processors",
       .write = reset_by_both,
       .promise = {.ends = {EndReason::kReset}, .processors = 2},
       .vcpus = 2},
  };
}

}  // namespace ramet::testing
