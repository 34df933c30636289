// HostileGuest: one way to misbehave, with what is promised while it does; and the list of them.
//
// Thread rule: plain data; `write`, `host` and `proof` on the test's thread.
// Invariant: every row is run by tests/kvm/hostile_test.cc; adding one is adding a row to the list
// of a file here.
#ifndef RAMET_TESTS_GUESTS_GUEST_H_
#define RAMET_TESTS_GUESTS_GUEST_H_

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "lib/instance/instance.h"
#include "tests/guests/builder.h"

namespace ramet::testing {

// What holds while a guest misbehaves, beside what holds for every one: the host's process lives,
// and nothing is left of the guest.
struct Promise {
  // How the machine may end by itself; none: it goes on until it is killed.
  std::vector<EndReason> ends = {};
  // Processors' worth of host time that the process uses at most: one for each vCPU that runs, and
  // two more where the engine's workers move disks.
  double processors = 1;
  // What the process grows by at most, the guest's own 8 MiB included.
  uint64_t memory_bytes = 16 << 20;
  // From the call to stop() to its return, in the middle of it.
  std::chrono::milliseconds kill = std::chrono::seconds(1);
};

struct HostileGuest {
  const char* name;
  void (*write)(GuestBuilder& guest);
  Promise promise = {};
  uint32_t vcpus = 1;
  // How often it does it before it is judged.
  uint64_t rounds = 200;
  // What the embedder does before the guest runs: listen, connect.
  void (*host)(VsockHost& host) = nullptr;
  // Asked before the kill, of a machine that goes on; what is wrong, or nothing.
  std::string (*proof)(Instance& instance) = nullptr;
};

using HostileGuests = std::vector<HostileGuest>;
HostileGuests processor_guests();  // processor.cc
HostileGuests bus_guests();        // bus.cc
HostileGuests ring_guests();       // rings.cc
HostileGuests block_guests();      // block.cc
HostileGuests transport_guests();  // transport.cc
HostileGuests vsock_guests();      // vsock.cc

// Not in the list: real mode runs on hardware KVM only.
HostileGuest sipi_guest();

// All of them.
const HostileGuests& hostile_guests();

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_GUEST_H_
