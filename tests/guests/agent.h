// Hand-made guests whose agent misbehaves (lib/agent/wire.h), against the product's own side of the
// conversation: SandboxMachine's reseed and exec.
//
// Thread rule: one thread.
// Invariant: a row says at which request the guest misbehaves and what its sandbox must say then;
// the host waits no longer than its deadlines.
#ifndef RAMET_TESTS_GUESTS_AGENT_H_
#define RAMET_TESTS_GUESTS_AGENT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/agent/wire.h"
#include "lib/core/sandbox_life.h"
#include "tests/guests/vsock_driver.h"

namespace ramet::testing {

// How many commands an agent that serves has had.
inline constexpr uint64_t kServed = kRounds + 0x200;

// What an agent's instructions are made of.
class AgentScript {
 public:
  explicit AgentScript(GuestBuilder* guest);

  // Waits for the host's next packet of this operation; others are passed over.
  void wait_packet(vsock::Op op);
  // Remembers whom the packet came from: say() and the others answer there.
  void note_peer();
  void send(vsock::Op op, uint32_t flags = 0);
  // Bytes on the stream.
  void say(std::span<const std::byte> bytes);
  void say(const wire::Message& message);
  // The same bytes for ever, within the credit of the host.
  void say_for_ever(std::span<const std::byte> bytes);

  // Takes the host's next connection, and does not greet.
  void accept();
  void greet() { say(wire::Hello{wire::kProtocolVersion, "hostile", "hand-made"}); }
  // All of a reseed as it should be; `acks` acknowledgements.
  void reseed_well(int acks = 1);
  // The same, but a guest whose host name begins with these four bytes never answers.
  void reseed_well_unless_named(std::string_view name);
  // The next request, up to its arrival: on the connection that there is, or on another, which it
  // takes and greets on.
  void take_request();
  // No byte more is to come from the host.
  void withhold_credit();
  // Serves for ever, whatever comes and in whatever order, as the product's agent does: takes
  // reseeds, holds and thaws, and answers the n-th command with exit status n & 0x7f after `work`,
  // which finds n at kServed.
  void serve(const std::function<void()>& work);
  void stop() { guest_.stop(); }
  GuestBuilder& guest() { return guest_; }

 private:
  // A reseed's request, up to its arrival, and the answer to it.
  void take_reseed();
  void acknowledge_reseed(int acks);
  // A packet to be sent any number of times.
  uint16_t keep(vsock::Op op, std::span<const std::byte> payload = {});
  // The packet that is at rsi, and has come from a peer that was noted.
  struct Answers;
  void answer(const Answers& answers, const std::function<void()>& work, std::vector<size_t>* done);
  void wait_any_packet();
  void take_packet();
  // Of the packet at rsi; sets the flags.
  void compare_operation(vsock::Op op);
  uint16_t add_packet(const vsock::PacketHeader& header, std::span<const std::byte> payload);
  void give(uint16_t packet);

  GuestBuilder& guest_;
  uint16_t packets_ = 0;
};

struct HostileAgent {
  const char* name;
  void (*write)(AgentScript& agent);
  bool at_exec = false;          // it takes its reseed well, and misbehaves at a command
  bool succeeds = false;         // the request it misbehaves at
  std::string_view reason = {};  // in the status of that request
  SandboxState state = SandboxState::kRunning;  // afterwards
};
std::vector<HostileAgent> hostile_agents();

// Forks, in a manner of speaking, runs a command, kills; what was not as promised.
std::vector<std::string> run_agent(const HostileAgent& agent);

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_AGENT_H_
