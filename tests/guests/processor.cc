// Guests that abuse the processor: faults, HLT, CPUID, MSRs, the LAPIC's timer and interrupts.
#include "tests/guests/guest.h"

namespace ramet::testing {
namespace {

constexpr uint64_t kApic = x86::kLocalApicAddress;
constexpr uint64_t kSpurious = kApic + 0xf0;
constexpr uint64_t kIcrLow = kApic + 0x300;
constexpr uint64_t kTimerVector = kApic + 0x320;
constexpr uint64_t kTimerInitial = kApic + 0x380;
constexpr uint64_t kTimerDivide = kApic + 0x3e0;
constexpr uint32_t kPatMsr = 0x277;
constexpr uint32_t kTscMsr = 0x10;
constexpr uint32_t kTscDeadlineMsr = 0x6e0;
constexpr uint32_t kKvmWallClockMsr = 0x4b564d00;
constexpr uint32_t kKvmSystemTimeMsr = 0x4b564d01;
constexpr uint32_t kUnknownMsr = 0x9999;
constexpr uint32_t kAllButSelf = 0xc0000;
constexpr uint32_t kSelf = 0x40000;
constexpr uint64_t kStartPage = 0x6000;

void enable_apic(Assembler& code) { code.store32(kSpurious, 0x1ff); }

void halts_for_good(GuestBuilder& guest) {
  guest.round();
  guest.stop();
}

void faults_without_a_table(GuestBuilder& guest) {
  guest.no_interrupt_table();
  guest.cpu().invalid_opcode();
}

void faults_without_a_stack(GuestBuilder& guest) {
  guest.cpu().bytes({0x48, 0xbc});  // mov rsp, imm64
  guest.cpu().immediate(0x7fff'ffff'ffff'f000, 8);
  guest.cpu().invalid_opcode();
}

void invalid_opcodes(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    guest.cpu().invalid_opcode();
    guest.round();
  });
}

void cpuid_storm(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    guest.cpu().cpuid_random(0xffffffff);
    guest.cpu().cpuid_random(0x1f);
    guest.round();
  });
}

void msr_reads(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    guest.cpu().read_random_msr(0xfff);
    guest.cpu().read_msr(kUnknownMsr);
    guest.round();
  });
}

void msr_writes(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    guest.cpu().write_msr(kUnknownMsr, ~uint64_t{0});
    guest.cpu().write_msr(kPatMsr, ~uint64_t{0});
    guest.cpu().write_msr(kTscMsr, 0);
    guest.cpu().write_msr(kKvmWallClockMsr, 0x7fff'ffff'f001);
    guest.cpu().write_msr(kKvmSystemTimeMsr, 0x7fff'ffff'f001);
    guest.round();
  });
}

void timer(GuestBuilder& guest, uint32_t count) {
  Assembler& code = guest.cpu();
  enable_apic(code);
  code.store32(kTimerDivide, 0xb);
  code.store32(kTimerVector, 0x20041);  // periodic
  code.interrupts_on();
  code.forever([&] {
    code.store32(kTimerInitial, count);
    guest.round();
  });
}
void timer_of_none(GuestBuilder& guest) { timer(guest, 0); }
void timer_of_one(GuestBuilder& guest) { timer(guest, 1); }

void deadline_that_has_passed(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  enable_apic(code);
  code.store32(kTimerVector, 0x40041);  // TSC deadline
  code.interrupts_on();
  code.forever([&] {
    code.write_msr(kTscDeadlineMsr, 1);
    guest.round();
  });
}

void interrupts_itself(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  enable_apic(code);
  code.interrupts_on();
  code.forever([&] {
    code.store32(kIcrLow, kSelf | 0x41);
    guest.round();
  });
}

void ipi_flood(GuestBuilder& guest) {
  for (uint32_t index = 0; index < 2; ++index) {
    Assembler& code = guest.cpu(index);
    enable_apic(code);
    code.interrupts_on();
    code.forever([&] {
      code.store32(kIcrLow, kAllButSelf | 0x41);
      guest.round(index);
    });
  }
}

// INIT and SIPI to the other processor, which starts in real mode at page 6, again and again.
void sipi_flood(GuestBuilder& guest) {
  guest.put_object(kStartPage, std::array<uint8_t, 3>{0xf4, 0xeb, 0xfd});  // hlt; jmp back
  guest.stop(1);
  Assembler& code = guest.cpu();
  enable_apic(code);
  code.forever([&] {
    code.store32(kIcrLow, kAllButSelf | 0x4500);
    code.store32(kIcrLow, kAllButSelf | 0x4600 | (kStartPage >> 12));
    guest.round();
  });
}

void apic_nonsense(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    guest.cpu().random_store(kApic, 0xff0, 4);
    guest.cpu().random_load(kApic, 0xfff, 4);
    guest.round();
  });
}

}  // namespace

HostileGuest sipi_guest() {
  return {.name = "starts its other processor again and again",
          .write = sipi_flood,
          .promise = {.processors = 2},
          .vcpus = 2};
}

HostileGuests processor_guests() {
  const std::vector<EndReason> kDies = {EndReason::kTripleFault, EndReason::kGuestFault};
  return {
      {.name = "halts with interrupts off",
       .write = halts_for_good,
       .promise = {.processors = 0.2},
       .rounds = 1},
      {.name = "faults without an interrupt table",
       .write = faults_without_a_table,
       .promise = {.ends = {EndReason::kTripleFault}}},
      {.name = "faults without a stack",
       .write = faults_without_a_stack,
       .promise = {.ends = kDies}},
      {.name = "raises invalid opcodes without end", .write = invalid_opcodes},
      {.name = "asks for CPUID leaves without end", .write = cpuid_storm},
      {.name = "reads MSRs without end", .write = msr_reads},
      {.name = "writes nonsense to MSRs", .write = msr_writes},
      {.name = "sets a periodic timer of 0", .write = timer_of_none},
      {.name = "sets a periodic timer of 1", .write = timer_of_one},
      {.name = "sets timer deadlines that have passed", .write = deadline_that_has_passed},
      {.name = "interrupts itself without end", .write = interrupts_itself},
      {.name = "floods its other processor with interrupts",
       .write = ipi_flood,
       .promise = {.processors = 2},
       .vcpus = 2},
      {.name = "writes nonsense to its LAPIC", .write = apic_nonsense},
  };
}

}  // namespace ramet::testing
