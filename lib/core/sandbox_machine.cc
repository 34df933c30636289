#include "lib/core/sandbox_machine.h"

#include "lib/instance/reasons.h"

namespace ramet {

SandboxMachine::SandboxMachine(std::shared_ptr<Engine> engine,
                               std::unique_ptr<ForkedMachine> machine, std::string hostname,
                               SandboxTimes times)
    : engine_(std::move(engine)),
      hostname_(std::move(hostname)),
      ports_(machine->ports()),
      life_(SandboxLife::create(engine_.get(), std::move(machine), times)) {}

Status SandboxMachine::start(const wire::Reseed& reseed, uint64_t deadline_ns) {
  // The request waits in the device, so that the guest's first instructions already find it.
  auto stream = ports_->connect(wire::kAgentPort);
  if (!stream.ok()) {
    return judge(stream.status());
  }
  AgentClient client(*std::move(stream));
  if (const Status status = life_->start(); !status.ok()) {
    return judge(status);
  }
  if (const Status status = client.reseed(reseed, deadline_ns); !status.ok()) {
    const auto why = absl::IsDeadlineExceeded(status) ? reason::kGuestHung : reason::kReseedFailed;
    return annotate(judge(with_reason(status, why)),
                    "the fork did not acknowledge its fresh randomness");
  }
  life_->mark(&SandboxTimes::first_agent_reply);
  return Status();
}

StatusOr<ExecOutcome> SandboxMachine::exec(const ExecSpec& spec) {
  RAMET_RETURN_IF_ERROR(engine_->check_process());
  RAMET_RETURN_IF_ERROR(life_->check_running("run a command"));
  auto stream = ports_->connect(wire::kAgentPort);
  // Without a reason it is the device's, not the sandbox's end.
  if (absl::IsResourceExhausted(stream.status()) && reason_of(stream.status()).empty()) {
    const uint64_t most = ports_->max_connections();
    return limit_status({LimitKind::kConnections, most, most + 1});
  }
  if (!stream.ok()) {
    return judge(stream.status());
  }
  AgentClient client(*std::move(stream));
  if (spec.stdin_source != nullptr) {
    spec.stdin_source->attach([&client] { client.wake(); });
  }
  StatusOr<ExecOutcome> outcome = client.exec(spec);
  if (spec.stdin_source != nullptr) {
    spec.stdin_source->attach({});
  }
  if (!outcome.ok()) {
    return annotate(judge(outcome.status()),
                    "exec " + (spec.argv.empty() ? std::string("nothing") : spec.argv[0]));
  }
  life_->mark(&SandboxTimes::exec_done);
  return outcome;
}

void SandboxMachine::kill() {
  life_->finish(with_reason(absl::CancelledError("the sandbox was killed"), reason::kKilled));
}

Status SandboxMachine::judge(const Status& status) {
  if (absl::IsDataLoss(status)) {
    life_->poison(with_reason(status, reason::kGuestMisbehaved));
  } else if (absl::IsDeadlineExceeded(status)) {
    // The agent itself did not answer: nothing that it says later can be taken to be about this
    // request.
    life_->poison(with_reason(status, reason::kGuestHung));
  }
  const Status end = life_->end_reason();
  return end.ok() || absl::IsInvalidArgument(status) ? status : end;
}

}  // namespace ramet
