#include <ramet/sandbox.h>

#include "lib/api/deadline.h"
#include "lib/api/exec_request.h"
#include "lib/api/impl.h"
#include "lib/api/limits.h"
#include "lib/fork/fork.h"

namespace sandbox {
namespace {

State to_public(ramet::SandboxState state) {
  switch (state) {
    case ramet::SandboxState::kRunning:
      return State::kRunning;
    case ramet::SandboxState::kPaused:
      return State::kPaused;
    case ramet::SandboxState::kPoisoned:
      return State::kPoisoned;
    case ramet::SandboxState::kGone:
      break;
  }
  return State::kGone;
}

std::optional<std::chrono::nanoseconds> between(uint64_t from, uint64_t to) {
  if (from == 0 || to < from) {
    return std::nullopt;
  }
  return std::chrono::nanoseconds(to - from);
}

ForkClocks to_clocks(const ramet::SandboxTimes& times) {
  return {.shell_ready = between(times.fork_called, times.shell_ready),
          .first_guest_instruction = between(times.fork_called, times.first_exit),
          .first_agent_reply = between(times.fork_called, times.first_agent_reply),
          .exec_done = between(times.fork_called, times.exec_done),
          .teardown_done = between(times.kill_called, times.teardown_done)};
}

absl::Status moved_from() { return absl::FailedPreconditionError("this sandbox was moved from"); }

}  // namespace

Sandbox::Sandbox(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sandbox::Sandbox(Sandbox&&) noexcept = default;
Sandbox& Sandbox::operator=(Sandbox&& other) noexcept {
  if (this != &other) {
    kill();
    impl_ = std::move(other.impl_);
  }
  return *this;
}
// Killed here and not with the last reference: a command that still runs on another thread holds
// one.
Sandbox::~Sandbox() { kill(); }

absl::StatusOr<ExecResult> Sandbox::exec(const std::vector<std::string>& argv,
                                         const ExecOptions& options) {
  if (impl_ == nullptr) {
    return moved_from();
  }
  const std::shared_ptr<Impl> impl = impl_;
  RAMET_ASSIGN_OR_RETURN(
      const auto request,
      ExecRequest::create(&impl_->engine->impl()->engine->jail(), argv, options));
  request->limit_output(impl->max_output_bytes);
  const uint64_t start = ramet::monotonic_ns();
  RAMET_ASSIGN_OR_RETURN(auto outcome, impl->machine->exec(request->spec()));
  ExecResult result = to_public(std::move(outcome), impl->max_output_bytes);
  result.wall_time = std::chrono::nanoseconds(ramet::monotonic_ns() - start);
  return result;
}

absl::Status Sandbox::pause() {
  return impl_ == nullptr ? moved_from() : impl_->machine->life().pause();
}

absl::Status Sandbox::resume() {
  return impl_ == nullptr ? moved_from() : impl_->machine->life().resume();
}

void Sandbox::kill() {
  if (impl_ != nullptr) {
    impl_->machine->kill();
  }
}

absl::Status Sandbox::wait_gone(std::chrono::nanoseconds timeout) {
  return impl_ == nullptr ? moved_from()
                          : impl_->machine->life().wait_gone(deadline_after(timeout));
}

State Sandbox::state() const {
  return impl_ == nullptr ? State::kGone : to_public(impl_->machine->life().state());
}

absl::Status Sandbox::end_reason() const {
  return impl_ == nullptr ? moved_from() : impl_->machine->life().end_reason();
}

Metrics Sandbox::metrics() const {
  if (impl_ == nullptr) {
    return {};
  }
  const ramet::SandboxLife& life = impl_->machine->life();
  const ramet::InstanceMetrics counted = life.metrics();
  return {.clocks = to_clocks(life.times()),
          .vcpu_exits = counted.vcpu_exits,
          .interrupts = counted.interrupts,
          .cpu_time = std::chrono::nanoseconds(counted.cpu_ns),
          .throttled = counted.throttled,
          .throttled_time = std::chrono::nanoseconds(counted.throttled_ns),
          .vsock_bytes_in = counted.vsock_bytes_in,
          .vsock_bytes_out = counted.vsock_bytes_out,
          .disk_bytes_read = counted.disk_bytes_read,
          .disk_bytes_written = counted.disk_bytes_written,
          .private_disk_bytes = counted.private_disk_bytes};
}

std::string Sandbox::hostname() const {
  return impl_ == nullptr ? std::string() : impl_->machine->hostname();
}

absl::StatusOr<Sandbox> fork(const Template& from, const ForkOptions& options) {
  auto impl = std::make_shared<Sandbox::Impl>();
  impl->engine = from.engine();
  impl->max_output_bytes = options.limits.output_bytes;
  RAMET_ASSIGN_OR_RETURN(const ramet::InstanceLimits limits, to_internal(options.limits));
  RAMET_ASSIGN_OR_RETURN(
      impl->machine,
      ramet::fork_sandbox(
          from.engine()->impl()->engine, *from.impl()->data,
          {.hostname = options.hostname,
           .ready_deadline_ns = deadline_after(options.ready_timeout),
           .console = options.console,
           .isolation = options.isolation == Isolation::kProcess ? ramet::Isolation::kHelper
                                                                 : ramet::Isolation::kInProcess,
           .limits = limits}));
  return Sandbox(std::move(impl));
}

}  // namespace sandbox
