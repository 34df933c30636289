// Pause, resume and stop: from any thread, at any moment, without losing or repeating anything.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/kvm/need_kvm.h"
#include "tests/support/guest_code.h"
#include "tests/support/settle.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

// The device that Program::kStream talks to: checks that every access comes once and in order.
struct StreamCheck {
  std::atomic<uint64_t> last{0};
  std::atomic<uint64_t> string{0};  // bytes of the string so far
  std::atomic<uint64_t> touched{0};
  std::atomic<int> wrong{0};
  std::atomic<uint32_t> low{0};
  std::atomic<uint32_t> high{0};

  void attach(Box* box) {
    box->ports->count_only();
    box->mmio->count_only();
    box->ports->set_on_write([this](const Access& access) {
      ++touched;
      if (access.offset == kPortData - kPortBase) {
        wrong += access.value == last + 1 && string % 16 == 0 ? 0 : 1;
        last = access.value;
      } else if (access.offset == kPortString - kPortBase) {
        wrong += access.value == string % 16 ? 0 : 1;
        ++string;
      }
    });
    box->ports->set_answer([this](const Access&) {
      ++touched;
      return last.load();
    });
    box->mmio->set_on_write([this](const Access& access) {
      ++touched;
      wrong += access.value == last ? 0 : 1;
      (access.offset == 0xffc ? low : high) = static_cast<uint32_t>(access.value);
    });
    box->mmio->set_answer([this](const Access& access) {
      ++touched;
      return uint64_t{access.offset == 0xffc ? low : high};
    });
  }
};

void print_latency(const char* what, std::vector<uint64_t> ns) {
  std::sort(ns.begin(), ns.end());
  std::printf("%s: p50 %.1f us, p99 %.1f us, worst %.1f us of %zu\n", what,
              static_cast<double>(ns[ns.size() / 2]) / 1e3,
              static_cast<double>(ns[ns.size() * 99 / 100]) / 1e3,
              static_cast<double>(ns.back()) / 1e3, ns.size());
}

uint64_t rbx_of(Machine& machine, uint32_t vcpu) {
  uint64_t rbx = 0;
  const Status status = machine.with_vcpu(vcpu, [&](Vcpu& target) {
    RAMET_ASSIGN_OR_RETURN(const VcpuRegisters registers, target.registers());
    rbx = registers.general.rbx;
    return Status();
  });
  REQUIRE(status.ok());
  return rbx;
}

// A second processor that runs without INIT and SIPI.
Status start_by_registers(Machine& machine, uint32_t vcpu) {
  RAMET_RETURN_IF_ERROR(machine.with_vcpu(vcpu, [](Vcpu& target) {
    RAMET_ASSIGN_OR_RETURN(VcpuState state, target.save());
    state.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
    return target.restore(state);
  }));
  return enter_program(machine, vcpu);
}

}  // namespace

TEST_CASE("1,000 pauses of a guest that counts: nothing is lost, nothing moves while paused") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kCount);
  REQUIRE(box.ok());
  std::vector<uint64_t> latency;
  uint64_t before = 0;
  uint64_t moved = 0;
  const int rounds = long_run() ? 10'000 : 1'000;
  for (int i = 0; i < rounds; ++i) {
    REQUIRE(box->machine->resume().ok());
    if (i % 4 != 0) {  // every fourth pause comes at once
      REQUIRE(wait_for([&] { return box->data() > before; }));
    }
    const uint64_t start = monotonic_ns();
    REQUIRE(box->machine->pause().ok());
    latency.push_back(monotonic_ns() - start);
    const uint64_t rbx = rbx_of(*box->machine, 0);
    const uint64_t stored = box->data();
    // The pause may fall between the increment and the store.
    REQUIRE((stored == rbx || stored + 1 == rbx));
    REQUIRE(rbx >= before);
    moved += rbx > before ? 1 : 0;
    before = rbx;
    REQUIRE(box->data() == stored);
  }
  CHECK(moved > static_cast<uint64_t>(rounds) / 2);
  print_latency("pause of a counting guest", latency);
}

TEST_CASE(
    "1,000 pauses amid port, string and page-crossing accesses: each arrives once and whole") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kStream);
  REQUIRE(box.ok());
  StreamCheck check;
  check.attach(&*box);
  for (uint64_t i = 0; i < 16; ++i) {
    REQUIRE(box->memory().write_object({kGuestData + 0x1000 + i}, static_cast<uint8_t>(i)).ok());
  }
  std::vector<uint64_t> latency;
  const int rounds = long_run() ? 10'000 : 1'000;
  for (int i = 0; i < rounds; ++i) {
    REQUIRE(box->machine->resume().ok());
    std::this_thread::sleep_for(std::chrono::microseconds(i % 8 * 40));
    const uint64_t start = monotonic_ns();
    REQUIRE(box->machine->pause().ok());
    latency.push_back(monotonic_ns() - start);
    const uint64_t touched = check.touched;
    if (i % 16 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
    REQUIRE(check.touched == touched);
    REQUIRE(check.wrong == 0);
    // What the device took, the guest knows it has sent, and the other way round.
    REQUIRE(rbx_of(*box->machine, 0) - check.last <= 1);
  }
  CHECK(check.last > 100);
  CHECK(box->ports->writes(kPortDone - kPortBase) == 0);
  print_latency("pause amid I/O", latency);
}

TEST_CASE(
    "whatever the embedder does with the kick signal, a pause takes effect and nothing of it "
    "runs") {
  RAMET_NEED_KVM(kvm);
  static std::atomic<int> handled{0};
  handled = 0;
  auto box = make_box(kvm, Program::kCount);
  REQUIRE(box.ok());
  const int signal = SIGRTMIN + 6;
  struct sigaction before = {};
  REQUIRE(::sigaction(signal, nullptr, &before) == 0);
  for (const bool ignore : {true, false}) {
    struct sigaction action = {};
    if (ignore) {
      action.sa_handler = SIG_IGN;
    } else {
      action.sa_handler = [](int) { ++handled; };
    }
    REQUIRE(::sigaction(signal, &action, nullptr) == 0);
    std::vector<uint64_t> latency;
    for (int i = 0; i < 100; ++i) {
      REQUIRE(box->machine->resume().ok());
      std::this_thread::sleep_for(std::chrono::microseconds(500));
      const uint64_t start = monotonic_ns();
      REQUIRE(box->machine->pause().ok());
      latency.push_back(monotonic_ns() - start);
    }
    print_latency(ignore ? "pause, signal ignored" : "pause, signal handled", latency);
    std::sort(latency.begin(), latency.end());
    CHECK(latency[50] < 50'000'000);
  }
  box->machine->stop();
  CHECK(handled == 0);
  REQUIRE(::sigaction(signal, &before, nullptr) == 0);
}

TEST_CASE("stop from many threads at once ends a running machine once") {
  RAMET_NEED_KVM(kvm);
  for (const Program program : {Program::kCount, Program::kHalt, Program::kHello}) {
    auto box = make_box(kvm, program, {.vcpus = 2});
    REQUIRE(box.ok());
    box->ports->count_only();
    std::atomic<int> told{0};
    box->machine->on_end([&](const MachineEnd&) { ++told; });
    REQUIRE(box->machine->resume().ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] { box->machine->stop(); });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    CHECK(told == 1);
    CHECK(box->machine->end()->reason == EndReason::kStopped);
    const uint64_t exits = box->machine->exits();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    CHECK(box->machine->exits() == exits);
  }
}

TEST_CASE("a machine can be stopped or destroyed before it ran, as it starts, and while paused") {
  RAMET_NEED_KVM(kvm);
  for (int i = 0; i < 40; ++i) {
    auto box = make_box(kvm, Program::kCount, {.vcpus = 1 + static_cast<uint32_t>(i % 2)});
    REQUIRE(box.ok());
    switch (i % 5) {
      case 0:
        break;
      case 1:
        box->machine->stop();
        CHECK(box->machine->resume().code() == absl::StatusCode::kFailedPrecondition);
        break;
      case 2:
        REQUIRE(box->machine->resume().ok());
        break;
      case 3:
        REQUIRE(box->machine->resume().ok());
        box->machine->stop();
        break;
      default:
        REQUIRE(box->machine->resume().ok());
        REQUIRE(box->machine->pause().ok());
        break;
    }
  }
}

TEST_CASE(
    "pause, resume, registers and stop from several threads at once end in a stopped machine") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kStream, {.vcpus = 2});
  REQUIRE(box.ok());
  StreamCheck check;
  check.attach(&*box);
  for (uint64_t i = 0; i < 16; ++i) {
    REQUIRE(box->memory().write_object({kGuestData + 0x1000 + i}, static_cast<uint8_t>(i)).ok());
  }
  std::atomic<bool> over{false};
  std::atomic<uint64_t> wrong_answers{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!over) {
        box->machine->resume().IgnoreError();
        box->machine->pause().IgnoreError();
      }
    });
    // Each caller must get the answer of its own call.
    threads.emplace_back([&, i] {
      const std::string mine = std::to_string(i);
      while (!over) {
        const Status status =
            box->machine->with_vcpu(0, [&](Vcpu&) { return absl::DataLossError(mine); });
        wrong_answers += status.code() == absl::StatusCode::kFailedPrecondition ||
                                 std::string(status.message()) == mine
                             ? 0
                             : 1;
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  box->machine->stop();
  over = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(check.wrong == 0);
  CHECK(wrong_answers == 0);
  CHECK(box->machine->end()->reason == EndReason::kStopped);
}

TEST_CASE("two vCPUs run at once and pause together") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kCount, {.vcpus = 2});
  REQUIRE(box.ok());
  const Status started = start_by_registers(*box->machine, 1);
  INFO(started.ToString());
  REQUIRE(started.ok());
  std::array<uint64_t, 2> before{};
  for (int i = 0; i < 100; ++i) {
    REQUIRE(box->machine->resume().ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(box->machine->pause().ok());
    for (uint32_t vcpu = 0; vcpu < 2; ++vcpu) {
      const uint64_t rbx = rbx_of(*box->machine, vcpu);
      REQUIRE(rbx >= before[vcpu]);
      before[vcpu] = rbx;
    }
  }
  CHECK(before[0] > 1000);
  CHECK(before[1] > 1000);
}

TEST_CASE("INIT and SIPI start the second vCPU in real mode at the page they name") {
  RAMET_NEED_KVM(kvm);
  RAMET_NEED_HARDWARE("run real mode");
  auto box = make_box(kvm, Program::kSipi, {.vcpus = 2});
  REQUIRE(box.ok());
  REQUIRE(box->machine->resume().ok());
  REQUIRE(box->ports->wait_writes(kPortIrq - kPortBase, 1));
  const auto all = box->ports->accesses();
  CHECK(std::any_of(all.begin(), all.end(), [](const Access& access) {
    return access.offset == kPortIrq - kPortBase && access.value == 0xa9;
  }));
}

TEST_CASE("the host's failure in KVM_RUN ends the machine as a host error, at once") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kHello);
  REQUIRE(box.ok());
  box->ports->count_only();
  sys::FaultPlan plan(sys::Call::kIoctl, 5, EFAULT);
  plan.arm();
  REQUIRE(box->machine->resume().ok());
  const auto end = box->machine->wait_end(monotonic_ns() + 10'000'000'000);
  plan.disarm();
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kHostError);
  CHECK(end->detail.find("KVM_RUN of vCPU 0") != std::string::npos);
}
