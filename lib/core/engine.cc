#include "lib/core/engine.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include <absl/strings/str_format.h>

#include "lib/core/reasons.h"

namespace ramet {
namespace {

constexpr uint32_t kMaxWorkers = 64;
// Host ports of one machine lie within this many of its offset before another machine's begin; the
// device wraps.
constexpr uint32_t kPortsPerMachine = 4096;

std::string_view why_no_kvm(const Status& status) {
  if (absl::IsNotFound(status)) {
    return reason::kKvmMissing;
  }
  return absl::IsPermissionDenied(status) ? reason::kKvmDenied : reason::kKvmUnfit;
}

}  // namespace

Engine::Engine(EngineConfig config)
    : config_(std::move(config)), owner_pid_(::getpid()), log_(config_.log) {}

StatusOr<std::shared_ptr<Engine>> Engine::create(EngineConfig config) {
  if (config.workers > kMaxWorkers) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d workers asked for; at most %d", config.workers, kMaxWorkers));
  }
  const uint32_t cores = std::max(1U, std::thread::hardware_concurrency());
  const uint32_t workers = config.workers == 0 ? std::min(2U, cores) : config.workers;
  std::shared_ptr<Engine> engine(new Engine(std::move(config)));
  auto kvm = Kvm::open(engine->config_.kvm_device);
  if (!kvm.ok()) {
    return with_reason(kvm.status(), why_no_kvm(kvm.status()));
  }
  engine->kvm_ = std::move(*kvm);
  RAMET_ASSIGN_OR_RETURN(engine->pool_, WorkerPool::start("ramet-io", workers));
  RAMET_ASSIGN_OR_RETURN(engine->reaper_, WorkerPool::start("ramet-reaper", 1));
  engine->executor_.pool = engine->pool_.get();
  return engine;
}

uint32_t Engine::next_port_offset() {
  return next_port_offset_.fetch_add(1, std::memory_order_relaxed) * kPortsPerMachine;
}

Status Engine::check_runs_linux() const {
  if (kvm_->kind() == KvmKind::kHardware) {
    return Status();
  }
  return with_reason(
      absl::FailedPreconditionError(
          "this host's KVM has no hardware virtualization (its CPU shows neither VMX nor SVM), and "
          "ordinary Linux guests do not run on it: use a host that has it, or turn nested "
          "virtualization on"),
      reason::kKvmUnfit);
}

Status Engine::check_process() const {
  if (::getpid() != owner_pid_) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "this engine belongs to process %d, and this is process %d: after fork() make a new one",
        owner_pid_, ::getpid()));
  }
  return Status();
}

}  // namespace ramet
