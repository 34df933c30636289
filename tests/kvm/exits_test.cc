// What a guest's accesses and ends become.
#include <chrono>
#include <cstring>
#include <map>
#include <numeric>

#include <catch2/catch.hpp>

#include "tests/kvm/need_kvm.h"
#include "tests/support/guest_code.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

std::vector<Access> at(const std::vector<Access>& all, uint64_t offset) {
  std::vector<Access> found;
  std::copy_if(all.begin(), all.end(), std::back_inserter(found),
               [&](const Access& access) { return access.offset == offset; });
  return found;
}

std::optional<MachineEnd> run_to_end(Machine& machine) {
  REQUIRE(machine.resume().ok());
  return machine.wait_end(monotonic_ns() + 20'000'000'000);
}

}  // namespace

TEST_CASE(
    "port accesses of 1, 2 and 4 bytes and byte strings reach the device whole and in order") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kPio);
  REQUIRE(box.ok());
  std::vector<std::byte> pattern(kStringBytes);
  for (size_t i = 0; i < pattern.size(); ++i) {
    pattern[i] = static_cast<std::byte>(i * 7 + 3);
  }
  REQUIRE(box->memory().write({kGuestData + 0x1000}, pattern).ok());
  size_t in = 0;
  box->ports->set_answer([&](const Access& access) -> uint64_t {
    return access.offset == kPortString - kPortBase ? (in++ * 5 + 1) & 0xff : 0xa1a2a3a4;
  });
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortDone - kPortBase, 1));
  const auto all = box->ports->accesses();
  const auto data = at(all, 0);
  REQUIRE(data.size() == 6);
  CHECK(data[0] == Access{0, true, 1, 0x11});
  CHECK(data[1] == Access{0, true, 2, 0x2211});
  CHECK(data[2] == Access{0, true, 4, 0x44332211});
  CHECK(box->data() == (uint64_t{0xa3a4} << 32 | 0xa4));
  CHECK((box->data(8) & 0xffffffff) == 0xa1a2a3a4);
  const auto string = at(all, kPortString - kPortBase);
  REQUIRE(string.size() == 2 * kStringBytes);
  for (size_t i = 0; i < kStringBytes; ++i) {
    REQUIRE(string[i] == Access{3, true, 1, std::to_integer<uint64_t>(pattern[i])});
  }
  std::vector<std::byte> read(kStringBytes);
  REQUIRE(box->memory().read({kGuestData + 0x2000}, read).ok());
  for (size_t i = 0; i < read.size(); ++i) {
    REQUIRE(std::to_integer<size_t>(read[i]) == ((i * 5 + 1) & 0xff));
  }
  CHECK(box->machine->exits() > 6);
  CHECK(box->machine->first_exit_ns() != 0);
}

TEST_CASE("memory-mapped accesses of 1 to 8 bytes arrive whole, one across a page as two") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kMmio);
  REQUIRE(box.ok());
  box->mmio->set_answer([&](const Access& access) {
    return access.offset == 0xffc    ? 0x04030201
           : access.offset == 0x1000 ? 0x08070605
                                     : 0xb8b7b6b5b4b3b2b1;
  });
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortDone - kPortBase, 1));
  const auto all = box->mmio->accesses();
  REQUIRE(all.size() == 12);
  CHECK(all[0] == Access{0, true, 1, 0x11});
  CHECK(all[1] == Access{8, true, 2, 0x2211});
  CHECK(all[2] == Access{16, true, 4, 0x44332211});
  CHECK(all[3] == Access{24, true, 8, 0x8877665544332211});
  CHECK(all[4] == Access{0xffc, true, 4, 0x44332211});
  CHECK(all[5] == Access{0x1000, true, 4, 0x88776655});
  CHECK(box->data(0) == 0xb1);
  CHECK(box->data(8) == 0xb2b1);
  CHECK(box->data(16) == 0xb4b3b2b1);
  CHECK(box->data(24) == 0xb8b7b6b5b4b3b2b1);
  CHECK(box->data(32) == 0x0807060504030201);
}

TEST_CASE("a port and an address without a device read as ones and take writes") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kIrq,
                      {.registers = [](VcpuRegisters& registers) { registers.general.rbp = 5; }});
  REQUIRE(box.ok());
  VcpuExit exit{.kind = ExitKind::kPio, .address = 0x80, .size = 2};
  std::array<std::byte, 2> data{};
  exit.data = data;
  ExitHandler handler;
  CHECK(!handler.handle(exit).has_value());
  CHECK(data == std::array{std::byte{0xff}, std::byte{0xff}});
}

TEST_CASE("a triple fault ends the machine and says so, and it never runs again") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kTripleFault);
  REQUIRE(box.ok());
  int told = 0;
  box->machine->on_end(
      [&](const MachineEnd& end) { told += end.reason == EndReason::kTripleFault ? 1 : 100; });
  const auto end = run_to_end(*box->machine);
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kTripleFault);
  box->machine->stop();
  CHECK(told == 1);
  CHECK(box->machine->end()->reason == EndReason::kTripleFault);
  CHECK(box->machine->resume().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(box->machine->pause().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(box->machine->save().status().code() == absl::StatusCode::kFailedPrecondition);
  box->machine->on_end([&](const MachineEnd&) { told += 10; });
  CHECK(told == 11);
}

TEST_CASE("a guest that halts for ever sleeps: it can be paused, resumed and stopped") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kHalt);
  REQUIRE(box.ok());
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortDone - kPortBase, 1));
  for (int i = 0; i < 5; ++i) {
    REQUIRE(box->machine->pause().ok());
    REQUIRE(box->machine->resume().ok());
  }
  CHECK(!box->machine->wait_end(monotonic_ns() + 20'000'000).has_value());
  box->machine->stop();
  CHECK(box->machine->end()->reason == EndReason::kStopped);
}

TEST_CASE("a device ends the machine from the vCPU's own thread") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kHello);
  REQUIRE(box.ok());
  Machine* machine = box->machine.get();
  box->ports->set_on_write([&](const Access&) {
    machine->request_end({EndReason::kPowerOff, "asked"});
  });
  const auto end = run_to_end(*machine);
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kPowerOff);
  CHECK(end->detail == "asked");
}

TEST_CASE("a number of vCPUs outside 1 to 8 is refused with both numbers") {
  RAMET_NEED_KVM(kvm);
  for (const uint32_t vcpus : {0u, 9u, 1000u}) {
    const auto box = make_box(kvm, Program::kHalt, {.vcpus = vcpus});
    REQUIRE(!box.ok());
    CHECK(box.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(std::string(box.status().message()).find(std::to_string(vcpus)) != std::string::npos);
  }
}

TEST_CASE("registers are out of reach while the guest runs, and of a vCPU that is not there") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kCount);
  REQUIRE(box.ok());
  const auto nothing = [](Vcpu&) { return Status(); };
  CHECK(box->machine->with_vcpu(1, nothing).code() == absl::StatusCode::kInvalidArgument);
  REQUIRE(box->machine->resume().ok());
  CHECK(box->machine->with_vcpu(0, nothing).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(box->machine->save().status().code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(box->machine->pause().ok());
  CHECK(box->machine->with_vcpu(0, nothing).ok());
  CHECK(box->machine->with_vcpu(0, [](Vcpu&) { return absl::DataLossError("mine"); }).message() ==
        "mine");
}
