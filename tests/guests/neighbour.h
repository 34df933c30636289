// Neighbour: a well-behaved machine that sleeps until its device interrupts it, and answers by a
// port; how long its answers take while others keep the host busy.
//
// Thread rule: one thread.
// Invariant: each sample is one whole round trip: interrupt line, IOAPIC, LAPIC, the guest's
// handler, port exit, recorder.
#ifndef RAMET_TESTS_GUESTS_NEIGHBOUR_H_
#define RAMET_TESTS_GUESTS_NEIGHBOUR_H_

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/guests/runner.h"
#include "tests/support/guest_code.h"

namespace ramet::testing {

using Samples = std::vector<std::chrono::nanoseconds>;

class Neighbour {
 public:
  static StatusOr<std::unique_ptr<Neighbour>> create(const std::shared_ptr<const Kvm>& kvm);
  // Appends `count` reply times; false when an answer did not come within 20 s.
  bool sample(size_t count, Samples* samples);

 private:
  explicit Neighbour(Box box) : box_(std::move(box)) {}
  Box box_;
  size_t asked_ = 0;
};

// What a guest with nothing against its host does to be as busy: computes; and, where `disk`, reads
// and writes its disk.
HostileGuest busy_guest(const HostileGuest& like, bool disk);

// The reply times of a neighbour beside busy guests, of all turns together. A single turn's p99 is
// either what a wakeup takes or one or two ticks of the host's scheduler, as the threads happen to
// fall; many turns' is not a matter of luck.
struct BesideBusy {
  Samples compute;
  Samples store;
  // Beside those that are as busy as `hostile`.
  Samples& like(const HostileGuest& hostile);
};
struct CompareOptions {
  int turns = 4;
  size_t samples = 50;  // a turn and kind
  // Machines at the same time: more than this host has processors, so that the neighbour has to
  // wait for its turn beside both kinds.
  uint32_t machines = 3;
};
// Adds samples to both, by turns.
Status compare_neighbours(Neighbour* neighbour, const HostileGuest& hostile,
                          const CompareOptions& options, Samples* beside_hostile,
                          BesideBusy* beside_busy);

// The sample that 99 of 100 are not above.
std::chrono::nanoseconds p99(Samples samples);

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_NEIGHBOUR_H_
