// Runs one hostile guest in a machine with all devices, and says what of its promise was not kept.
//
// Thread rule: one thread. No Catch2 macro is used, so that a benchmark or a loop may run guests
// too. Invariant: when run_guest() has returned, nothing of the machine is left but what settles.
#ifndef RAMET_TESTS_GUESTS_RUNNER_H_
#define RAMET_TESTS_GUESTS_RUNNER_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "lib/core/engine.h"
#include "tests/guests/guest.h"

namespace ramet::testing {

// The engine that all hostile guests of a process share; it keeps no idle threads, so that what a
// machine leaves behind can be counted. Throws where there is none to be had.
const std::shared_ptr<Engine>& hostile_engine();

// A machine with a root disk, a scratch disk of 16 MiB and a vsock device, paused, with the guest
// in place.
StatusOr<std::unique_ptr<Instance>> make_hostile_instance(const GuestBuilder& guest,
                                                          uint32_t vcpus);

// The same, of a row, and what the embedder does.
class HostileMachine {
 public:
  static StatusOr<std::unique_ptr<HostileMachine>> create(const HostileGuest& guest);

  Instance& instance() { return *instance_; }
  uint64_t rounds(uint32_t vcpu = 0);
  // Until it has done its rounds, or ended; false when neither came in time.
  bool wait_rounds(uint64_t rounds, std::chrono::milliseconds limit);

 private:
  std::unique_ptr<Instance> instance_;
};

struct Ran {
  std::vector<std::string> broken;  // what was not as promised, one sentence each
  std::string end;                  // how the machine ended, or that it was killed
  double processors = 0;            // host time per time
  int64_t grown_bytes = 0;
  std::chrono::microseconds kill = {};
};

// Checks everything but leaks, which want a process that has come to rest: see left_behind().
Ran run_guest(const HostileGuest& guest);

// What a process has that a guest could leave: threads, descriptors, mappings of guest memory and
// of KVM.
struct Belongings {
  size_t threads = 0;
  size_t descriptors = 0;
  size_t guest_mappings = 0;
};
Belongings belongings();
// What is there more than `before` once all has settled; one sentence each.
std::vector<std::string> left_behind(const Belongings& before);

// Resident bytes of this process.
int64_t resident_bytes();
// False where a sanitizer's run-time keeps freed memory: then growth says nothing.
bool memory_is_ours();

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_RUNNER_H_
