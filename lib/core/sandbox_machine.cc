#include "lib/core/sandbox_machine.h"

#include <utility>

#include <absl/cleanup/cleanup.h>
#include <absl/strings/str_cat.h>

#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"

namespace ramet {

SandboxMachine::SandboxMachine(std::shared_ptr<Engine> engine,
                               std::unique_ptr<ForkedMachine> machine, std::string hostname,
                               SandboxTimes times)
    : engine_(std::move(engine)),
      hostname_(std::move(hostname)),
      life_(SandboxLife::create(engine_.get(), std::move(machine), times)) {}

Status SandboxMachine::start(const wire::Reseed& reseed, uint64_t deadline_ns) {
  const SandboxLife::Run run = life_->run();
  // The request waits in the device: the guest's first instructions find that there is a
  // connection, and its answer to that finds the request.
  auto stream = run.ports->connect(wire::kAgentPort);
  if (!stream.ok()) {
    return judge(run.number, stream.status());
  }
  AgentClient client(*std::move(stream));
  const auto not_reseeded = [&](const Status& status) {
    const auto why = absl::IsDeadlineExceeded(status) ? reason::kGuestHung : reason::kReseedFailed;
    return annotate(judge(run.number, with_reason(status, why)),
                    "the fork did not acknowledge its fresh randomness");
  };
  if (const Status status = client.begin_reseed(reseed); !status.ok()) {
    return not_reseeded(status);
  }
  if (const Status status = life_->start(); !status.ok()) {
    return judge(run.number, status);
  }
  if (const Status status = client.end_reseed(reseed, deadline_ns); !status.ok()) {
    return not_reseeded(status);
  }
  life_->mark(&SandboxTimes::first_agent_reply);
  if (run.ports->idle_is_cheap()) {
    keep(run.number, std::move(client));
  }
  return Status();
}

StatusOr<std::shared_ptr<ForkedMachine>> SandboxMachine::begin_reset() {
  auto machine = life_->begin_reset();
  if (machine.ok()) {
    take_reseeded();
  }
  return machine;
}

Status SandboxMachine::end_reset(StatusOr<std::unique_ptr<ForkedMachine>> machine,
                                 const wire::Reseed& reseed, SandboxTimes times,
                                 uint64_t deadline_ns) {
  Status status = machine.status();
  if (status.ok()) {
    status = life_->continue_reset(*std::move(machine), times);
  }
  if (status.ok()) {
    status = start(reseed, deadline_ns);
  }
  if (status.ok()) {
    const std::lock_guard lock(hostname_mutex_);
    hostname_ = reseed.hostname;
  }
  return life_->end_reset(status);
}

std::string SandboxMachine::hostname() const {
  const std::lock_guard lock(hostname_mutex_);
  return hostname_;
}

void SandboxMachine::keep(uint64_t run, AgentClient client) {
  client.rest();
  const std::lock_guard lock(reseeded_mutex_);
  reseeded_.emplace(Reseeded{run, std::move(client)});
}

std::optional<SandboxMachine::Reseeded> SandboxMachine::take_reseeded() {
  const std::lock_guard lock(reseeded_mutex_);
  return std::exchange(reseeded_, std::nullopt);
}

StatusOr<AgentClient> SandboxMachine::talk(const SandboxLife::Run& run) {
  if (auto reseeded = take_reseeded(); reseeded && reseeded->run == run.number) {
    return std::move(reseeded->client);
  }
  auto stream = run.ports->connect(wire::kAgentPort);
  if (!stream.ok()) {
    return judge(run.number, stream.status());
  }
  return AgentClient(*std::move(stream));
}

StatusOr<ExecOutcome> SandboxMachine::exec(const ExecSpec& spec) {
  RAMET_RETURN_IF_ERROR(engine_->check_process());
  RAMET_ASSIGN_OR_RETURN(const SandboxLife::Run run, life_->running("run a command"));
  RAMET_ASSIGN_OR_RETURN(AgentClient client, talk(run));
  if (spec.stdin_source != nullptr) {
    spec.stdin_source->attach([&client] { client.wake(); });
  }
  StatusOr<ExecOutcome> outcome = client.exec(spec);
  if (spec.stdin_source != nullptr) {
    spec.stdin_source->attach({});
  }
  if (!outcome.ok()) {
    return annotate(judge(run.number, outcome.status()),
                    "exec " + (spec.argv.empty() ? std::string("nothing") : spec.argv[0]));
  }
  life_->mark(&SandboxTimes::exec_done);
  return outcome;
}

StatusOr<InstanceSnapshot> SandboxMachine::snapshot(uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(const SandboxLife::Run run, life_->running("take a snapshot"));
  if (in_snapshot_.exchange(true)) {
    return absl::FailedPreconditionError("another thread is taking a snapshot of the sandbox");
  }
  const absl::Cleanup done = [&] { in_snapshot_ = false; };
  return snapshot_held(run, deadline_ns);
}

Status SandboxMachine::lost_hold(uint64_t run, const Status& status) {
  Status judged = judge(run, status);
  if (!life_->end_reason(run).ok()) {
    return judged;
  }
  Status why = with_reason(status, reason::kGuestMisbehaved);
  life_->poison(run, why);
  return why;
}

StatusOr<InstanceSnapshot> SandboxMachine::snapshot_held(const SandboxLife::Run& run,
                                                         uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(AgentClient client, talk(run));
  const auto held = client.suspend(deadline_ns);
  if (absl::IsUnavailable(held.status())) {
    return lost_hold(run.number, held.status());
  }
  if (!held.ok()) {
    return judge(run.number, held.status());
  }
  if (held->live_count != 0) {
    return with_reason(
        absl::FailedPreconditionError(
            absl::StrCat("processes of the guest left the control group that holds its commands: ",
                         list_processes(*held))),
        reason::kProcessesAlive);
  }
  auto snapshot = life_->snapshot(run.number);
  if (const Status thawed = client.thaw(monotonic_ns() + kThawWithinNs); !thawed.ok()) {
    return lost_hold(run.number, thawed);
  }
  return snapshot;
}

void SandboxMachine::kill() {
  life_->finish(with_reason(absl::CancelledError("the sandbox was killed"), reason::kKilled));
  take_reseeded();
}

Status SandboxMachine::judge(uint64_t run, const Status& status) {
  if (absl::IsDataLoss(status)) {
    life_->poison(run, with_reason(status, reason::kGuestMisbehaved));
  } else if (absl::IsDeadlineExceeded(status)) {
    // The agent itself did not answer: nothing that it says later can be taken to be about this
    // request.
    life_->poison(run, with_reason(status, reason::kGuestHung));
  }
  const Status end = life_->end_reason(run);
  return end.ok() || absl::IsInvalidArgument(status) ? status : end;
}

}  // namespace ramet
