// From a device's line through our IOAPIC and KVM's LAPIC to the guest's handler.
#include <atomic>
#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/kvm/need_kvm.h"
#include "tests/support/guest_code.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kAnswerSpin = 0;
constexpr uint64_t kAnswerUnmask = 1;
constexpr uint64_t kAnswerSleep = 2;
constexpr uint64_t kIrqOffset = kPortIrq - kPortBase;

StatusOr<Box> irq_box(const std::shared_ptr<const Kvm>& kvm, uint32_t pin, bool masked) {
  return make_box(kvm, Program::kIrq, {.registers = [=](VcpuRegisters& registers) {
                    registers.general.rbp = pin;
                    registers.general.r12 = masked ? 0x10000 : 0;
                  }});
}

// A guest asleep on pin 5 in HLT: no thread of its machine makes a system call.
StatusOr<Box> sleeping_box(const std::shared_ptr<const Kvm>& kvm) {
  auto box = irq_box(kvm, 5, false);
  if (box.ok()) {
    box->ports->count_only();
    box->ports->set_answer([](const Access&) { return kAnswerSleep; });
    RAMET_RETURN_IF_ERROR(box->machine->resume());
    box->ports->wait_writes(kPortData - kPortBase, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return box;
}

void trigger_and_fail(Machine* machine, uint32_t pin, int error) {
  sys::FaultPlan plan(sys::Call::kIoctl, 1, error);
  plan.arm();
  machine->irq(pin).trigger();
  plan.disarm();
  REQUIRE(plan.fired());
}

// Register `index` of the IOAPIC, as the guest writes it (82093AA 3.1: IOREGSEL, IOWIN).
void write_ioapic(Machine* machine, uint32_t index, uint32_t value) {
  machine->mmio().write(x86::kIoApicAddress, std::as_bytes(std::span(&index, 1)));
  machine->mmio().write(x86::kIoApicAddress + 0x10, std::as_bytes(std::span(&value, 1)));
}

}  // namespace

TEST_CASE("an edge on an IOAPIC pin reaches the guest's handler, awake or asleep, on every pin") {
  RAMET_NEED_KVM(kvm);
  for (const uint64_t answer : {kAnswerSleep, kAnswerSpin}) {
    for (const uint32_t pin : {0u, 4u, 5u, 16u, 23u}) {
      auto box = irq_box(kvm, pin, false);
      REQUIRE(box.ok());
      box->ports->count_only();
      box->ports->set_answer([&](const Access&) { return answer; });
      REQUIRE(box->machine->resume().ok());
      REQUIRE(box->ports->wait_writes(kPortData - kPortBase, 1));
      for (size_t edge = 1; edge <= 20; ++edge) {
        box->machine->irq(pin).trigger();
        INFO("pin " << pin << " edge " << edge << " answer " << answer);
        REQUIRE(box->ports->wait_writes(kIrqOffset, edge));
      }
      CHECK(box->ports->writes(kIrqOffset) == 20);
    }
  }
}

TEST_CASE("edges on a masked pin stay pending as one, which fires when the guest unmasks it") {
  RAMET_NEED_KVM(kvm);
  std::atomic<uint64_t> answer{kAnswerSpin};  // before the box, whose guest asks to the end
  auto box = irq_box(kvm, 5, true);
  REQUIRE(box.ok());
  box->ports->count_only();
  box->ports->set_answer([&](const Access&) { return answer.load(); });
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortData - kPortBase, 1));
  for (int i = 0; i < 3; ++i) {
    box->machine->irq(5).trigger();
  }
  box->machine->irq(6).trigger();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(box->ports->writes(kIrqOffset) == 0);
  answer = kAnswerUnmask;
  REQUIRE(box->ports->wait_writes(kIrqOffset, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(box->ports->writes(kIrqOffset) == 1);
}

TEST_CASE("an edge that comes while the machine is paused is delivered after the resume") {
  RAMET_NEED_KVM(kvm);
  auto box = irq_box(kvm, 7, false);
  REQUIRE(box.ok());
  box->ports->count_only();
  box->ports->set_answer([](const Access&) { return kAnswerSleep; });
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortData - kPortBase, 1));
  for (size_t edge = 1; edge <= 50; ++edge) {
    REQUIRE(box->machine->pause().ok());
    box->machine->irq(7).trigger();
    REQUIRE(box->machine->resume().ok());
    REQUIRE(box->ports->wait_writes(kIrqOffset, edge));
  }
}

TEST_CASE("edges from several threads while the guest runs are never lost altogether") {
  RAMET_NEED_KVM(kvm);
  auto box = irq_box(kvm, 9, false);
  REQUIRE(box.ok());
  box->ports->count_only();
  box->ports->set_answer([](const Access&) { return kAnswerSleep; });
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortData - kPortBase, 1));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 200; ++n) {
        box->machine->irq(9).trigger();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  // Edges coalesce in the LAPIC; after the last one, one handler must still run.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const size_t before = box->ports->writes(kIrqOffset);
  CHECK(before >= 1);
  CHECK(before <= 800);
  box->machine->irq(9).trigger();
  CHECK(box->ports->wait_writes(kIrqOffset, before + 1));
}

TEST_CASE("an edge pending behind a mask at the save fires in the fork when it unmasks") {
  RAMET_NEED_KVM(kvm);
  auto box = irq_box(kvm, 5, true);
  REQUIRE(box.ok());
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortData - kPortBase, 1));
  box->machine->irq(5).trigger();
  REQUIRE(box->machine->pause().ok());
  const auto state = box->machine->save();
  REQUIRE(state.ok());
  CHECK(state->ioapic.pending == 1u << 5);
  const auto image = freeze_box(std::move(*box));
  REQUIRE(image.ok());
  for (int i = 0; i < 2; ++i) {
    auto fork = fork_box(kvm, **image, *state);
    REQUIRE(fork.ok());
    fork->ports->count_only();
    fork->ports->set_answer([](const Access&) { return kAnswerUnmask; });
    REQUIRE(fork->machine->resume().ok());
    CHECK(fork->ports->wait_writes(kIrqOffset, 1));
  }
}

TEST_CASE(
    "an interrupt that KVM does not take ends the machine as a host error, on a vCPU's thread") {
  RAMET_NEED_KVM(kvm);
  std::atomic<bool> told_on_other_thread{false};
  auto box = sleeping_box(kvm);
  REQUIRE(box.ok());
  box->machine->on_end([&, caller = std::this_thread::get_id()](const MachineEnd&) {
    told_on_other_thread = std::this_thread::get_id() != caller;
  });
  trigger_and_fail(box->machine.get(), 5, EIO);
  const auto end = box->machine->wait_end(monotonic_ns() + 10'000'000'000);
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kHostError);
  CHECK(end->detail.find("KVM_SIGNAL_MSI") != std::string::npos);
  box->machine->stop();
  CHECK(told_on_other_thread);
}

TEST_CASE("a machine that loses an interrupt while it is paused is not saved and does not go on") {
  RAMET_NEED_KVM(kvm);
  auto box = sleeping_box(kvm);
  REQUIRE(box.ok());
  REQUIRE(box->machine->pause().ok());
  trigger_and_fail(box->machine.get(), 5, ENOMEM);
  CHECK(box->machine->save().status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK_FALSE(box->machine->resume().ok());
  const auto end = box->machine->wait_end(monotonic_ns() + 10'000'000'000);
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kHostError);
}

TEST_CASE("an interrupt to a LAPIC that is not there is lost, and the machine goes on") {
  RAMET_NEED_KVM(kvm);
  auto box = sleeping_box(kvm);
  REQUIRE(box.ok());
  constexpr uint32_t kPin9High = 0x10 + 2 * 9 + 1;
  write_ioapic(box->machine.get(), kPin9High, 0x55u << 24);
  write_ioapic(box->machine.get(), kPin9High - 1, 0x40);
  box->machine->irq(9).trigger();
  box->machine->irq(5).trigger();
  CHECK(box->ports->wait_writes(kIrqOffset, 1));
  CHECK_FALSE(box->machine->end().has_value());
}
