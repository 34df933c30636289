#include <ramet/engine.h>

#include "lib/api/deadline.h"
#include "lib/api/impl.h"

namespace sandbox {
namespace {

LogLevel to_public(ramet::LogLevel level) {
  switch (level) {
    case ramet::LogLevel::kDebug:
      return LogLevel::kDebug;
    case ramet::LogLevel::kInfo:
      return LogLevel::kInfo;
    case ramet::LogLevel::kWarning:
      return LogLevel::kWarning;
    case ramet::LogLevel::kError:
      break;
  }
  return LogLevel::kError;
}

ramet::jail::Mode to_internal(Confinement confinement) {
  switch (confinement) {
    case Confinement::kOff:
      return ramet::jail::Mode::kOff;
    case Confinement::kLog:
      return ramet::jail::Mode::kLog;
    case Confinement::kEnforce:
      break;
  }
  return ramet::jail::Mode::kEnforce;
}

Confinement to_public(ramet::jail::Mode mode) {
  switch (mode) {
    case ramet::jail::Mode::kOff:
      return Confinement::kOff;
    case ramet::jail::Mode::kLog:
      return Confinement::kLog;
    case ramet::jail::Mode::kRecord:
    case ramet::jail::Mode::kEnforce:
    case ramet::jail::Mode::kKill:
      break;
  }
  return Confinement::kEnforce;
}

}  // namespace

Engine::Engine(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<std::shared_ptr<Engine>> Engine::create(EngineOptions options) {
  ramet::EngineConfig config = {
      .kvm_device = options.kvm_device,
      .workers = options.workers,
      .scratch_directory = options.scratch_directory,
      .confinement = to_internal(options.confinement),
      .confinement_required = options.require_confinement,
      .idle_threads = options.idle_threads,
      .ready_shells = options.ready_shells,
      .max_shells = options.max_shells,
      .fork_threads = options.fork_threads,
      .ready_helpers = options.ready_helpers,
      .helper_program = std::move(options.helper_program),
      .helper_cgroup = std::move(options.helper_cgroup),
      .worker_processes = options.worker_processes,
      .machines_here = options.machines_in_process,
      .pressure = {.min_available_percent = options.pressure.min_available_percent,
                   .max_some_percent = options.pressure.max_some_percent,
                   .max_full_percent = options.pressure.max_full_percent}};
  if (options.log) {
    config.log = [log = std::move(options.log)](ramet::LogLevel level, std::string_view line) {
      log(to_public(level), line);
    };
  }
  auto engine = ramet::Engine::create(std::move(config));
  if (!engine.ok()) {
    return engine.status();
  }
  auto impl = std::make_shared<Impl>();
  impl->engine = std::move(*engine);
  return std::shared_ptr<Engine>(new Engine(std::move(impl)));
}

absl::Status Engine::drain(std::chrono::nanoseconds timeout) {
  return impl_->engine->drain(deadline_after(timeout));
}

absl::StatusOr<std::vector<EnclosureStep>> Engine::enclosure() {
  const auto found = impl_->engine->enclosure(deadline_after(std::chrono::seconds(10)));
  if (!found.ok()) {
    return found.status();
  }
  std::vector<EnclosureStep> steps;
  for (size_t i = 0; i < ramet::jail::kSteps; ++i) {
    const auto step = static_cast<ramet::jail::Step>(i);
    const std::string why = ramet::jail::why_not(*found, step);
    steps.push_back(
        {.name = std::string(ramet::jail::name_of(step)), .granted = why.empty(), .why = why});
  }
  if (const auto* given = impl_->engine->controllers()) {
    for (const ramet::jail::Controller controller : ramet::jail::kControllers) {
      steps.push_back({.name = "cgroup_" + std::string(ramet::jail::name_of(controller)),
                       .granted = given->has(controller),
                       .why = given->at(controller)});
    }
  }
  return steps;
}

ConfinementReport Engine::confinement() const {
  const ramet::jail::Jail& jail = impl_->engine->jail();
  const ramet::jail::JailReport report = jail.report();
  return {.in_force = to_public(report.mode),
          .counted = report.counted,
          .why = report.why,
          .refused_calls = impl_->engine->refused_calls()};
}

}  // namespace sandbox
