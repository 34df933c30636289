// The list of hostile agents, and what runs one.
#include <absl/strings/str_format.h>

#include "lib/agent/client.h"
#include "lib/core/local_machine.h"
#include "lib/core/sandbox_machine.h"
#include "lib/instance/reasons.h"
#include "tests/guests/agent.h"
#include "tests/guests/runner.h"
#include "tests/support/place.h"
#include "vmm/base/clock.h"

namespace ramet::testing {
namespace {

using vsock::Op;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kReady = kSecond / 2;  // to the reseed's deadline
constexpr uint64_t kTimeout = kSecond / 2;
// Beyond a deadline: what a busy machine adds.
constexpr uint64_t kGrace = 2 * kSecond;
constexpr int64_t kMostGrown = 32 << 20;

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) {
    bytes.push_back(static_cast<std::byte>(value));
  }
  return bytes;
}

// --- at the reseed ---

void takes_no_connection(AgentScript& agent) {
  agent.wait_packet(Op::kRequest);
  agent.stop();
}
void refuses_the_connection(AgentScript& agent) {
  agent.wait_packet(Op::kRequest);
  agent.note_peer();
  agent.send(Op::kRst);
  agent.stop();
}
void never_answers(AgentScript& agent) {
  agent.accept();
  agent.stop();
}
void greets_only(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.stop();
}
void speaks_nonsense(AgentScript& agent) {
  agent.accept();
  agent.say(std::vector<std::byte>(1000, std::byte{0xa5}));
  agent.stop();
}
void claims_a_frame_of_4_gib(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.say(bytes_of({0xff, 0xff, 0xff, 0xff, 11, 0, 0, 0}));
  agent.stop();
}
// A frame of the largest length, of which no more than the start comes.
void never_ends_a_frame(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.say(bytes_of({0, 0, 1, 0, 6, 0, 0, 0}));
  for (int i = 0; i < 40; ++i) {
    agent.say(bytes_of({'x'}));
  }
  agent.stop();
}
void speaks_another_version(AgentScript& agent) {
  agent.accept();
  agent.say(wire::Hello{wire::kProtocolVersion + 1, "", ""});
  agent.stop();
}
void does_not_greet(AgentScript& agent) {
  agent.accept();
  agent.say(wire::ReseedAck{});
  agent.stop();
}
void greets_twice(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.greet();
  agent.stop();
}
void closes_early(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.send(Op::kShutdown, vsock::kShutdownBoth);
  agent.stop();
}
void acknowledges_another_generation(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.say(wire::ReseedAck{});
  agent.stop();
}
void answers_something_else(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.say(wire::Pong{1});
  agent.stop();
}
void answers_as_the_host(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.say(wire::Reseed{});
  agent.stop();
}
void reports_a_failure(AgentScript& agent) {
  agent.accept();
  agent.greet();
  agent.say(wire::Error{wire::ErrorCode::kReseedFailed, "\x1b[31m no"});
  agent.stop();
}
void greets_for_ever(AgentScript& agent) {
  agent.accept();
  agent.greet();
  const auto frame = wire::encode(wire::Pong{2});
  agent.say_for_ever(frame.value());
}
void powers_off(AgentScript& agent) {
  agent.accept();
  agent.guest().cpu().out(x86::kSleepControlPort,
                          x86::kSleepEnable | (x86::kSleepTypeS5 << x86::kSleepTypeShift), 1);
  agent.stop();
}

// --- at the exec ---

void acknowledges_twice(AgentScript& agent) {
  agent.reseed_well(2);
  agent.take_request();
  agent.say(wire::Exit{});
  agent.stop();
}
void closes_behind_its_reseed(AgentScript& agent) {
  agent.reseed_well();
  agent.send(Op::kShutdown, vsock::kShutdownBoth);
  agent.stop();
}
void exits_twice(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  agent.say(wire::Exit{});
  agent.say(wire::Exit{wire::Exit::Kind::kExited, 7, false, ""});
  agent.stop();
}
void takes_no_command(AgentScript& agent) {
  agent.reseed_well();
  agent.stop();
}
void never_exits(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  agent.stop();
}
void closes_in_a_command(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  agent.send(Op::kShutdown, vsock::kShutdownBoth);
  agent.stop();
}
void exits_with_what_is_no_status(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  agent.say(bytes_of({10, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}));
  agent.stop();
}
void gives_back_input_it_never_had(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  // More than the host could have put into its end of the connection meanwhile.
  for (int i = 0; i < 8; ++i) {
    agent.say(wire::StdinCredit{wire::kStdinWindowBytes, false});
  }
  agent.stop();
}
void acknowledges_in_a_command(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  agent.say(wire::ReseedAck{});
  agent.stop();
}
// Frames as large as output can be, for ever.
void prints_for_ever(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  const auto frame =
      wire::encode(wire::Stdout{std::vector<std::byte>(wire::kMaxDataBytes, std::byte{'x'})});
  agent.say_for_ever(frame.value());
}
// As small as it can be: a frame and a byte.
void prints_bytes_for_ever(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  const auto frame = wire::encode(wire::Stderr{{std::byte{'x'}}});
  agent.say_for_ever(frame.value());
}
void takes_no_input(AgentScript& agent) {
  agent.reseed_well();
  agent.withhold_credit();
  agent.stop();
}
void dies_in_a_command(AgentScript& agent) {
  agent.reseed_well();
  agent.take_request();
  agent.guest().cpu().out(x86::kResetPort, x86::kResetValue, 1);
  agent.stop();
}

void check(bool holds, std::string sentence, std::vector<std::string>* broken) {
  if (!holds) {
    broken->push_back(std::move(sentence));
  }
}

StatusOr<std::unique_ptr<SandboxMachine>> make_sandbox(const HostileAgent& agent) {
  GuestBuilder builder;
  AgentScript script(&builder);
  agent.write(script);
  RAMET_ASSIGN_OR_RETURN(auto instance, make_hostile_instance(builder, 1));
  return std::make_unique<SandboxMachine>(hostile_engine(),
                                          std::make_unique<LocalMachine>(std::move(instance)),
                                          "hostile", SandboxTimes{});
}

// The reseed, and where that is to be well, a command.
Status talk(SandboxMachine* machine, bool at_exec) {
  RAMET_ASSIGN_OR_RETURN(const wire::Reseed reseed, make_reseed("hostile"));
  RAMET_RETURN_IF_ERROR(machine->start(reseed, monotonic_ns() + kReady));
  if (!at_exec) {
    return Status();
  }
  const std::vector<std::byte> input(1 << 20, std::byte{'i'});
  SpanSource source(input);
  ExecSpec spec;
  spec.argv = {"true"};
  spec.stdin_source = &source;
  spec.capture_bytes = 1 << 20;
  spec.timeout_ns = kTimeout;
  return machine->exec(spec).status();
}

}  // namespace

std::vector<std::string> run_agent(const HostileAgent& agent) {
  std::vector<std::string> broken;
  const int64_t resident = resident_bytes();
  auto machine = make_sandbox(agent);
  if (!machine.ok()) {
    return {machine.status().ToString()};
  }
  SandboxLife& life = (*machine)->life();
  const uint64_t start = monotonic_ns();
  const Status status = talk(machine->get(), agent.at_exec);
  const uint64_t took = monotonic_ns() - start;
  const uint64_t most = kReady + (agent.at_exec ? kTimeout + kKillGraceNs : 0) + kGrace;
  check(took < most, absl::StrFormat("it took %d ms of %d", took / 1'000'000, most / 1'000'000),
        &broken);
  check(reason_of(status) == agent.reason && status.ok() == agent.succeeds, status.ToString(),
        &broken);
  check(life.state() == agent.state,
        absl::StrFormat("its state is %d", static_cast<int>(life.state())), &broken);
  check(life.state() == SandboxState::kRunning || !life.end_reason().ok(), "no reason is kept",
        &broken);
  const int64_t grown = resident_bytes() - resident;
  check(!memory_is_ours() || grown < kMostGrown,
        absl::StrFormat("the process grew by %d bytes", grown), &broken);
  const uint64_t killed = monotonic_ns();
  (*machine)->kill();
  check(life.wait_gone(killed + kSecond * (in_nested_machine() ? 10 : 1)).ok(),
        "it was not gone a second after the kill", &broken);
  return broken;
}

std::vector<HostileAgent> hostile_agents() {
  using State = SandboxState;
  const auto hung = [](const char* name, void (*write)(AgentScript&), bool at_exec) {
    return HostileAgent{name, write, at_exec, false, reason::kGuestHung, State::kPoisoned};
  };
  const auto lies = [](const char* name, void (*write)(AgentScript&), bool at_exec) {
    // The reseed's failure is what a caller of fork() is told; the sandbox is poisoned all the
    // same.
    return HostileAgent{name,
                        write,
                        at_exec,
                        false,
                        at_exec ? reason::kGuestMisbehaved : reason::kReseedFailed,
                        State::kPoisoned};
  };
  const auto refuses = [](const char* name, void (*write)(AgentScript&)) {
    return HostileAgent{name, write, false, false, reason::kReseedFailed, State::kRunning};
  };
  return {
      hung("takes no connection", takes_no_connection, false),
      refuses("refuses the connection", refuses_the_connection),
      hung("never answers", never_answers, false),
      hung("greets and never answers", greets_only, false),
      lies("speaks nonsense", speaks_nonsense, false),
      lies("claims a frame of 4 GiB", claims_a_frame_of_4_gib, false),
      hung("never ends a frame", never_ends_a_frame, false),
      refuses("speaks another version", speaks_another_version),
      lies("does not greet", does_not_greet, false),
      lies("greets twice", greets_twice, false),
      refuses("closes early", closes_early),
      lies("acknowledges another generation", acknowledges_another_generation, false),
      lies("answers something else", answers_something_else, false),
      lies("answers as the host would", answers_as_the_host, false),
      refuses("reports a failure", reports_a_failure),
      lies("answers for ever", greets_for_ever, false),
      {"powers off", powers_off, false, false, reason::kGuestDied, State::kGone},
      lies("acknowledges twice", acknowledges_twice, true),
      {"closes behind its reseed", closes_behind_its_reseed, true, false, "", State::kRunning},
      {"exits twice", exits_twice, true, true, "", State::kRunning},
      hung("takes no command", takes_no_command, true),
      hung("never reports an exit", never_exits, true),
      {"closes in a command", closes_in_a_command, true, false, "", State::kRunning},
      lies("exits with what is no status", exits_with_what_is_no_status, true),
      lies("gives back input it never had", gives_back_input_it_never_had, true),
      lies("acknowledges in a command", acknowledges_in_a_command, true),
      hung("prints for ever and ignores the kill", prints_for_ever, true),
      hung("prints byte after byte for ever", prints_bytes_for_ever, true),
      hung("takes no input", takes_no_input, true),
      {"dies in a command", dies_in_a_command, true, false, reason::kGuestDied, State::kGone},
  };
}

}  // namespace ramet::testing
