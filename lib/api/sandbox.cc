#include <ramet/sandbox.h>

#include "lib/api/deadline.h"
#include "lib/api/exec_request.h"
#include "lib/api/impl.h"
#include "lib/api/limits.h"
#include "lib/fork/branch.h"
#include "lib/fork/fork_many.h"

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

ramet::ShellUse to_internal(ShellUse use) {
  switch (use) {
    case ShellUse::kWait:
      return ramet::ShellUse::kWait;
    case ShellUse::kNone:
      return ramet::ShellUse::kNone;
    case ShellUse::kIfReady:
      break;
  }
  return ramet::ShellUse::kIfReady;
}

std::optional<MemoryMetrics> memory_metrics(const Sandbox::Impl& impl) {
  ramet::SandboxLife& life = impl.machine->life();
  const std::optional<ramet::MemoryUse> use = life.memory_use();
  if (!use) {
    return std::nullopt;
  }
  MemoryMetrics metrics = {.resident_bytes = use->resident_bytes(),
                           .private_bytes = use->private_bytes,
                           .shared_bytes = use->shared_bytes,
                           .page_table_bytes = use->page_table_bytes,
                           .cow_faults = use->private_bytes / ramet::kPageSize};
  const auto ready = ramet::made_ready(*impl.from, impl.spec);
  if (ready.empty()) {
    return metrics;
  }
  if (const auto came = life.prefetch_use(*impl.from->memory, ready); came.ok()) {
    metrics.cow_faults = came->misses;
    metrics.prefetched_pages = came->ready_pages;
    metrics.prefetch_hits = came->hits;
    metrics.prefetch_misses = came->misses;
  }
  return metrics;
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

absl::Status Sandbox::reset(const ResetOptions& options) {
  if (impl_ == nullptr) {
    return moved_from();
  }
  const std::shared_ptr<Impl> impl = impl_;
  ramet::ForkSpec spec = impl->spec;
  spec.hostname = options.hostname;
  spec.ready_deadline_ns = deadline_after(options.ready_timeout);
  return ramet::reset_sandbox(impl->machine.get(), *impl->from, spec);
}

absl::StatusOr<Template> Sandbox::snapshot(const SnapshotOptions& options) {
  if (impl_ == nullptr) {
    return moved_from();
  }
  const std::shared_ptr<Impl> impl = impl_;
  RAMET_ASSIGN_OR_RETURN(auto data, ramet::branch_sandbox(impl->machine.get(), *impl->from,
                                                          deadline_after(options.hold_timeout)));
  return Template(make_template_impl(std::move(data), impl->engine));
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
  ramet::SandboxLife& life = impl_->machine->life();
  const ramet::InstanceMetrics counted = life.metrics();
  const ramet::SandboxTimes times = life.times();
  const uint64_t pause = times.snapshot_pause;
  return {
      .clocks = to_clocks(times),
      .vcpu_exits = counted.vcpu_exits,
      .interrupts = counted.interrupts,
      .cpu_time = std::chrono::nanoseconds(counted.cpu_ns),
      .throttled = counted.throttled,
      .throttled_time = std::chrono::nanoseconds(counted.throttled_ns),
      .vsock_bytes_in = counted.vsock_bytes_in,
      .vsock_bytes_out = counted.vsock_bytes_out,
      .disk_bytes_read = counted.disk_bytes_read,
      .disk_bytes_written = counted.disk_bytes_written,
      .private_disk_bytes = counted.private_disk_bytes,
      .memory = memory_metrics(*impl_),
      .snapshot_pause = pause == 0 ? std::nullopt : std::optional(std::chrono::nanoseconds(pause))};
}

std::string Sandbox::hostname() const {
  return impl_ == nullptr ? std::string() : impl_->machine->hostname();
}

namespace {

absl::StatusOr<ramet::ForkSpec> to_spec(const Template& from, const ForkOptions& options) {
  RAMET_ASSIGN_OR_RETURN(const ramet::InstanceLimits limits, to_internal(options.limits));
  return ramet::ForkSpec{
      .hostname = options.hostname,
      .ready_deadline_ns = deadline_after(options.ready_timeout),
      .console = options.console,
      .isolation = options.isolation == Isolation::kProcess ? ramet::Isolation::kHelper
                                                            : ramet::Isolation::kInProcess,
      .limits = limits,
      .shells = from.impl()->shells,
      .learned = from.impl()->learned,
      .use_shell = to_internal(options.shell),
      .prefetch = options.prefetch ? ramet::Prefetch::kYes : ramet::Prefetch::kNo};
}

std::shared_ptr<Sandbox::Impl> make_impl(const Template& from, const ForkOptions& options,
                                         ramet::ForkSpec spec,
                                         std::unique_ptr<ramet::SandboxMachine> machine) {
  auto impl = std::make_shared<Sandbox::Impl>();
  impl->engine = from.engine();
  impl->from = from.impl()->data;
  impl->spec = std::move(spec);
  impl->max_output_bytes = options.limits.output_bytes;
  impl->machine = std::move(machine);
  return impl;
}

}  // namespace

absl::StatusOr<Sandbox> fork(const Template& from, const ForkOptions& options) {
  RAMET_ASSIGN_OR_RETURN(ramet::ForkSpec spec, to_spec(from, options));
  RAMET_ASSIGN_OR_RETURN(
      auto machine, ramet::fork_sandbox(from.engine()->impl()->engine, *from.impl()->data, spec));
  return Sandbox(make_impl(from, options, std::move(spec), std::move(machine)));
}

std::vector<absl::StatusOr<Sandbox>> fork_many(const Template& from, size_t count,
                                               const ManyOptions& options) {
  std::vector<absl::StatusOr<Sandbox>> sandboxes;
  sandboxes.reserve(count);
  auto spec = to_spec(from, options.fork);
  if (!spec.ok()) {
    for (size_t i = 0; i < count; ++i) {
      sandboxes.emplace_back(spec.status());
    }
    return sandboxes;
  }
  auto machines = ramet::fork_sandboxes(from.engine()->impl()->engine, *from.impl()->data, *spec,
                                        {.count = count, .all_or_nothing = options.all_or_nothing});
  for (auto& machine : machines) {
    if (machine.ok()) {
      sandboxes.emplace_back(Sandbox(make_impl(from, options.fork, *spec, *std::move(machine))));
    } else {
      sandboxes.emplace_back(machine.status());
    }
  }
  return sandboxes;
}

}  // namespace sandbox
