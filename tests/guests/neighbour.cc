#include "tests/guests/neighbour.h"

#include <algorithm>
#include <thread>

#include "devices/block/abi.h"

namespace ramet::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kPin = 5;
constexpr uint64_t kAnswerSleep = 2;
constexpr size_t kReply = kPortIrq - kPortBase;
constexpr Ring kDisk = {kScratchSlot, 0, 128};

void compute(GuestBuilder& guest, uint32_t index) {
  guest.cpu(index).repeat(1000, [&] { guest.cpu(index).random(); });
  guest.round(index);
}

void computes(GuestBuilder& guest) {
  for (uint32_t index = 0; index < kHostileVcpus; ++index) {
    guest.cpu(index).forever([&] { compute(guest, index); });
  }
}

void computes_and_stores(GuestBuilder& guest) {
  guest.put_object(kFreeMemory, block::RequestHeader{.type = block::kTypeOut});
  guest.descriptor(kDisk, 0, {kFreeMemory, 16, virtio::kDescNext, 1});
  guest.descriptor(kDisk, 1, {kFreeMemory + 0x1000, 64 << 10, virtio::kDescNext, 2});
  guest.descriptor(kDisk, 2, {kFreeMemory + 0x100, 1, virtio::kDescWrite, 0});
  guest.all_available(kDisk, 1);
  guest.bring_up({kDisk});
  guest.cpu().forever([&] {
    guest.submit(kDisk, 4);
    compute(guest, 0);
    guest.wait_used(kDisk);
  });
  guest.cpu(1).forever([&] { compute(guest, 1); });
}

// Takes samples while `machines` machines of this guest run.
Status sample_beside(Neighbour* neighbour, const HostileGuest& guest, const CompareOptions& options,
                     Samples* samples) {
  std::vector<std::unique_ptr<HostileMachine>> machines;
  for (uint32_t i = 0; i < options.machines; ++i) {
    RAMET_ASSIGN_OR_RETURN(auto machine, HostileMachine::create(guest));
    RAMET_RETURN_IF_ERROR(machine->instance().resume());
    machines.push_back(std::move(machine));
  }
  for (const auto& machine : machines) {
    if (!machine->wait_rounds(1, std::chrono::seconds(60))) {
      return absl::DeadlineExceededError("a guest beside the neighbour does nothing");
    }
  }
  if (!neighbour->sample(options.samples, samples)) {
    return absl::DeadlineExceededError("the neighbour does not answer");
  }
  for (const auto& machine : machines) {
    machine->instance().machine().request_end({EndReason::kStopped, "enough"});
  }
  return Status();
}

bool keeps_worker_busy(const HostileGuest& guest) {
  return guest.promise.processors >= guest.vcpus + 2;
}

}  // namespace

StatusOr<std::unique_ptr<Neighbour>> Neighbour::create(const std::shared_ptr<const Kvm>& kvm) {
  RAMET_ASSIGN_OR_RETURN(Box box,
                         make_box(kvm, Program::kIrq, {.registers = [](VcpuRegisters& registers) {
                                    registers.general.rbp = kPin;
                                    registers.general.r12 = 0;
                                  }}));
  box.ports->count_only();
  box.ports->set_answer([](const Access&) { return kAnswerSleep; });
  RAMET_RETURN_IF_ERROR(box.machine->resume());
  if (!box.ports->wait_writes(kPortData - kPortBase, 1)) {
    return absl::DeadlineExceededError("the neighbour did not start");
  }
  return std::unique_ptr<Neighbour>(new Neighbour(std::move(box)));
}

bool Neighbour::sample(size_t count, Samples* samples) {
  for (size_t i = 0; i < count; ++i) {
    const auto start = Clock::now();
    box_.machine->irq(kPin).trigger();
    if (!box_.ports->wait_writes(kReply, ++asked_)) {
      return false;
    }
    samples->push_back(Clock::now() - start);
    // As one who has something else to do between two requests.
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  return true;
}

HostileGuest busy_guest(const HostileGuest& like, bool disk) {
  HostileGuest busy = like;
  busy.name = "works";
  busy.write = disk ? computes_and_stores : computes;
  busy.host = nullptr;
  busy.proof = nullptr;
  return busy;
}

Samples& BesideBusy::like(const HostileGuest& hostile) {
  return keeps_worker_busy(hostile) ? store : compute;
}

Status compare_neighbours(Neighbour* neighbour, const HostileGuest& hostile,
                          const CompareOptions& options, Samples* beside_hostile,
                          BesideBusy* beside_busy) {
  const HostileGuest busy = busy_guest(hostile, keeps_worker_busy(hostile));
  Samples& like = beside_busy->like(hostile);
  for (int turn = 0; turn < options.turns; ++turn) {
    RAMET_RETURN_IF_ERROR(sample_beside(neighbour, hostile, options, beside_hostile));
    RAMET_RETURN_IF_ERROR(sample_beside(neighbour, busy, options, &like));
  }
  return Status();
}

std::chrono::nanoseconds p99(Samples samples) {
  const size_t place = samples.size() * 99 / 100;
  std::ranges::nth_element(samples, samples.begin() + static_cast<std::ptrdiff_t>(place));
  return samples.at(place);
}

}  // namespace ramet::testing
