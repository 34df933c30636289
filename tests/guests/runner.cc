#include "tests/guests/runner.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <thread>

#include <absl/strings/str_format.h>

#include "tests/support/guest_code.h"
#include "tests/support/place.h"
#include "tests/support/settle.h"
#include "vmm/memory/mapping.h"

namespace ramet::testing {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr uint64_t kRootBytes = 1 << 20;
constexpr uint64_t kScratchBytes = 16 << 20;
// What the test's own thread adds to host time, of which a part is for each guest.
constexpr double kOwnShare = 0.15;
constexpr double kOwnSeconds = 0.03;

// Everything is slower in the nested machine.
int slowness() { return in_nested_machine() ? 10 : 1; }
milliseconds patience() { return std::chrono::seconds(20) * slowness(); }

microseconds processor_time() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::chrono::seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

StatusOr<Disks> make_disks() {
  Disks disks;
  RAMET_ASSIGN_OR_RETURN(UniqueFd root, create_memfd("hostile-root", kRootBytes));
  RAMET_ASSIGN_OR_RETURN(disks.root, block::DiskFile::adopt(std::move(root), "hostile root",
                                                            block::Access::kReadOnly));
  RAMET_ASSIGN_OR_RETURN(disks.scratch, block::LayerStack::create(nullptr, kScratchBytes));
  return disks;
}

std::string name_of(EndReason reason) {
  switch (reason) {
    case EndReason::kPowerOff:
      return "power off";
    case EndReason::kReset:
      return "reset";
    case EndReason::kTripleFault:
      return "triple fault";
    case EndReason::kGuestFault:
      return "guest fault";
    case EndReason::kHostError:
      return "host error";
    case EndReason::kRefusedCall:
      return "refused call";
    case EndReason::kLimit:
      return "limit";
    case EndReason::kStopped:
      break;
  }
  return "stopped";
}

void judge_end(const HostileGuest& guest, HostileMachine& machine, Ran* ran) {
  const auto end = machine.instance().machine().end();
  const std::vector<EndReason>& ends = guest.promise.ends;
  ran->end = end ? name_of(end->reason) + ": " + end->detail : "killed";
  const bool as_promised = end ? std::ranges::find(ends, end->reason) != ends.end() : ends.empty();
  if (!as_promised) {
    ran->broken.push_back("its end: " + ran->end);
  }
  if (!end && guest.proof != nullptr) {
    if (std::string wrong = guest.proof(machine.instance()); !wrong.empty()) {
      ran->broken.push_back(std::move(wrong));
    }
  }
}

void judge_use(const Promise& promise, Ran* ran, Clock::duration wall, microseconds used) {
  const double seconds = std::chrono::duration<double>(wall).count();
  ran->processors = std::chrono::duration<double>(used).count() / seconds;
  const double allowed = (promise.processors + kOwnShare) * seconds + kOwnSeconds;
  if (std::chrono::duration<double>(used).count() > allowed) {
    ran->broken.push_back(absl::StrFormat("it used %.2f processors, promised %.2f", ran->processors,
                                          promise.processors));
  }
  if (memory_is_ours() && ran->grown_bytes > static_cast<int64_t>(promise.memory_bytes)) {
    ran->broken.push_back(absl::StrFormat("the process grew by %d bytes, promised %d",
                                          ran->grown_bytes, promise.memory_bytes));
  }
}

}  // namespace

const std::shared_ptr<Engine>& hostile_engine() {
  static const StatusOr<std::shared_ptr<Engine>> kEngine =
      Engine::create({.scratch_directory = temp_root(), .idle_threads = 0});
  if (!kEngine.ok()) {
    throw std::runtime_error(kEngine.status().ToString());
  }
  return *kEngine;
}

StatusOr<std::unique_ptr<Instance>> make_hostile_instance(const GuestBuilder& guest,
                                                          uint32_t vcpus) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd file, create_memfd("hostile-guest", kHostileMemoryBytes));
  RAMET_ASSIGN_OR_RETURN(
      auto memory,
      GuestMemory::create(file.get(), small_regions(kHostileMemoryBytes), MapMode::kShared));
  RAMET_ASSIGN_OR_RETURN(Disks disks, make_disks());
  RAMET_ASSIGN_OR_RETURN(
      auto instance,
      Instance::create(hostile_engine()->instance_host(), std::move(memory), vcpus,
                       {.disks = std::move(disks), .console = [](std::string_view) {}}));
  RAMET_RETURN_IF_ERROR(guest.place(&instance->machine()));
  return instance;
}

StatusOr<std::unique_ptr<HostileMachine>> HostileMachine::create(const HostileGuest& guest) {
  GuestBuilder builder;
  guest.write(builder);
  auto machine = std::make_unique<HostileMachine>();
  RAMET_ASSIGN_OR_RETURN(machine->instance_, make_hostile_instance(builder, guest.vcpus));
  if (guest.host != nullptr) {
    VsockHost host = machine->instance_->vsock();
    guest.host(host);
  }
  return machine;
}

uint64_t HostileMachine::rounds(uint32_t vcpu) {
  const auto value =
      instance_->machine().memory().read_object<uint64_t>(GuestAddr{kRounds + 8 * uint64_t{vcpu}});
  return value.ok() ? *value : 0;
}

bool HostileMachine::wait_rounds(uint64_t wanted, milliseconds limit) {
  const auto deadline = Clock::now() + limit;
  const auto done = [&] { return rounds() >= wanted || instance_->machine().end().has_value(); };
  while (!done() && Clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  return done();
}

Ran run_guest(const HostileGuest& guest) {
  Ran ran;
  const int64_t resident = resident_bytes();
  auto machine = HostileMachine::create(guest);
  if (!machine.ok()) {
    ran.broken.push_back(machine.status().ToString());
    return ran;
  }
  const auto start = Clock::now();
  const microseconds used = processor_time();
  // A guest may have ended before its second processor was started.
  const Status started = (*machine)->instance().resume();
  if (!started.ok() && !(*machine)->instance().machine().end()) {
    ran.broken.push_back(started.ToString());
    return ran;
  }
  // One that is to end must end; one that is not has 20 ms at least in which it could.
  const bool ends = !guest.promise.ends.empty();
  if (!(*machine)->wait_rounds(ends ? UINT64_MAX : guest.rounds, patience())) {
    ran.broken.push_back(absl::StrFormat("after %d s it has done %d of %d rounds",
                                         patience().count() / 1000, (*machine)->rounds(),
                                         guest.rounds));
  }
  if (!ends) {
    (*machine)->instance().machine().wait_end(
        static_cast<uint64_t>((start + milliseconds(20)).time_since_epoch().count()));
  }
  judge_end(guest, **machine, &ran);
  const auto called = Clock::now();
  ran.grown_bytes = resident_bytes() - resident;
  judge_use(guest.promise, &ran, called - start, processor_time() - used);
  if (const uint64_t refused = hostile_engine()->jail().refused(); refused != 0) {
    ran.broken.push_back(
        absl::StrFormat("%d system calls of Ramet's threads were refused", refused));
  }
  (*machine)->instance().machine().stop();
  ran.kill = std::chrono::duration_cast<microseconds>(Clock::now() - called);
  if (ran.kill > guest.promise.kill * slowness()) {
    ran.broken.push_back(absl::StrFormat("the kill took %d us, promised %d ms", ran.kill.count(),
                                         guest.promise.kill.count() * slowness()));
  }
  return ran;
}

Belongings belongings() {
  Belongings now{.threads = thread_count(), .descriptors = descriptor_count()};
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const bool guest =
        line.find("memfd:hostile") != std::string::npos || line.find("kvm") != std::string::npos;
    now.guest_mappings += guest ? 1 : 0;
  }
  return now;
}

std::vector<std::string> left_behind(const Belongings& before) {
  std::vector<std::string> left;
  const auto compare = [&](const char* what, size_t was, size_t is) {
    if (is != was) {
      left.push_back(absl::StrFormat("%d %s, %d before", is, what, was));
    }
  };
  compare("threads", before.threads, settled(thread_count, before.threads));
  compare("descriptors", before.descriptors, settled(descriptor_count, before.descriptors));
  compare("mappings of guests", before.guest_mappings, belongings().guest_mappings);
  return left;
}

bool memory_is_ours() {
#if defined(RAMET_SANITIZED)
  return false;
#else
  return true;
#endif
}

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  statm >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace ramet::testing
