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

}  // namespace

Engine::Engine(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<std::shared_ptr<Engine>> Engine::create(EngineOptions options) {
  ramet::EngineConfig config = {.kvm_device = options.kvm_device,
                                .workers = options.workers,
                                .scratch_directory = options.scratch_directory};
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

}  // namespace sandbox
