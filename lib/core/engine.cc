#include "lib/core/engine.h"

#include <unistd.h>

#include <algorithm>
#include <future>
#include <thread>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "lib/helper/wire/build.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unnamed_file.h"
#include "vmm/machine/policy_facts.h"
#include "vmm/memory/mapping.h"

namespace ramet {
namespace {

constexpr uint32_t kMaxWorkers = 64;
constexpr uint32_t kMaxForkThreads = 64;
constexpr uint32_t kMaxWorkerProcesses = 64;
// Of a thousand forks.
constexpr uint32_t kDescriptors = 4096;
constexpr uint32_t kWholePercent = 100;
constexpr uint64_t kRelieveNs = 200'000'000;
constexpr uint64_t kRetryReapMs = 100;
// Host ports of one machine lie within this many of its offset before another machine's begin; the
// device wraps.
constexpr uint32_t kPortsPerMachine = 4096;

std::string_view why_no_kvm(const Status& status) {
  if (absl::IsNotFound(status)) {
    return reason::kKvmMissing;
  }
  return absl::IsPermissionDenied(status) ? reason::kKvmDenied : reason::kKvmUnfit;
}

// With its reason where the host grants other processes less than was asked for.
Status refusal_of(const Status& started) {
  return absl::IsFailedPrecondition(started) ? with_reason(started, reason::kConfinementRefused)
                                             : started;
}

}  // namespace

Engine::Engine(EngineConfig config)
    : config_(std::move(config)),
      owner_pid_(::getpid()),
      log_([this](LogLevel level, std::string_view line) { tell_log(level, line); }),
      places_(config_.worker_processes == 0 ? MachinePlaces::kNoEnd : config_.machines_here) {}

StatusOr<std::shared_ptr<Engine>> Engine::create(EngineConfig config) {
  if (config.workers > kMaxWorkers) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d workers asked for; at most %d", config.workers, kMaxWorkers));
  }
  if (config.worker_processes > kMaxWorkerProcesses) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d worker processes asked for; at most %d", config.worker_processes, kMaxWorkerProcesses));
  }
  if (config.fork_threads > kMaxForkThreads) {
    return absl::InvalidArgumentError(absl::StrFormat("%d threads for forks asked for; at most %d",
                                                      config.fork_threads, kMaxForkThreads));
  }
  const PressureLimits& pressure = config.pressure;
  for (const uint32_t percent :
       {pressure.min_available_percent, pressure.max_some_percent, pressure.max_full_percent}) {
    if (percent > kWholePercent) {
      return absl::InvalidArgumentError(
          absl::StrFormat("a limit of memory pressure of %d percent asked for; at most %d", percent,
                          kWholePercent));
    }
  }
  const uint32_t cores = std::max(1U, std::thread::hardware_concurrency());
  const uint32_t workers = config.workers == 0 ? std::min(2U, cores) : config.workers;
  std::shared_ptr<Engine> engine(new Engine(std::move(config)));
  auto kvm = Kvm::open(engine->config_.kvm_device);
  if (!kvm.ok()) {
    return with_reason(kvm.status(), why_no_kvm(kvm.status()));
  }
  engine->kvm_ = std::move(*kvm);
  sys::make_room_for_descriptors(engine->kvm_->fd(), kDescriptors);
  RAMET_RETURN_IF_ERROR(engine->start_threads(workers));
  // What was asked for by name and is not there is found now, not at the first fork.
  if (engine->config_.worker_processes != 0) {
    RAMET_RETURN_IF_ERROR(
        annotate(refusal_of(engine->start_workers()), "start the worker processes"));
  }
  if (!engine->config_.helper_cgroup.empty()) {
    RAMET_RETURN_IF_ERROR(refusal_of(engine->start_helpers()));
  }
  return engine;
}

Status Engine::start_threads(uint32_t workers) {
  auto jail =
      jail::Jail::create({.mode = config_.confinement,
                          .required = config_.confinement_required,
                          .facts = machine_policy_facts(),
                          .on_refused = [this](const jail::RefusedCall& call,
                                               bool allowed) { tell_refused(call, allowed); },
                          .max_idle = config_.idle_threads,
                          .spare = config_.spare_threads});
  if (!jail.ok()) {
    return absl::IsFailedPrecondition(jail.status())
               ? with_reason(jail.status(), reason::kConfinementRefused)
               : jail.status();
  }
  jail_ = *std::move(jail);
  watch_ = std::make_unique<LimitWatch>(jail_.get());
  gate_ = std::make_unique<PressureGate>(PressureGate::Options{
      .source = config_.pressure_source,
      .limits = config_.pressure,
      .relieve = [this] { relieve(); },
      .tell =
          [this](std::string_view why) {
            log_.rate_limited_log(LogLevel::kWarning,
                                  absl::StrCat("forks wait: ", std::string(why)));
          }});
  RAMET_ASSIGN_OR_RETURN(calls_, WorkerPool::start_unconfined(jail_.get(), "ramet-calls"));
  RAMET_ASSIGN_OR_RETURN(opener_, WorkerPool::start_unconfined(jail_.get(), "ramet-opener"));
  RAMET_ASSIGN_OR_RETURN(pool_, WorkerPool::start(jail_.get(), jail::ThreadKind::kWorker, workers));
  RAMET_ASSIGN_OR_RETURN(reaper_, WorkerPool::start(jail_.get(), jail::ThreadKind::kReaper, 1));
  // Its threads' filters would be inherited by the vCPU threads that it makes.
  // In the background where the threads of its machines can be made by another.
  const bool spare = config_.spare_threads != 0 && config_.idle_threads != 0;
  RAMET_ASSIGN_OR_RETURN(
      shell_maker_, WorkerPool::start_unconfined(
                        jail_.get(), "ramet-shells", 1,
                        spare ? WorkerPool::Priority::kBackground : WorkerPool::Priority::kNormal));
  const uint32_t shells_here = config_.max_shells - shells_in_worker() * config_.worker_processes;
  shells_ =
      std::make_unique<Shells>(Shells::Parts{.maker = shell_maker_.get(),
                                             .reaper = reaper_.get(),
                                             .host_is_short = [this] { return gate_->is_short(); },
                                             .per_template = config_.ready_shells,
                                             .max = shells_here});
  const jail::JailReport report = jail_->report();
  if (!report.why.empty()) {
    log_.log(LogLevel::kWarning,
             absl::StrCat(report.mode == jail::Mode::kOff
                              ? "Ramet's threads run without seccomp filters: "
                              : "calls that seccomp filters refuse are not counted: ",
                          report.why));
  }
  return Status();
}

void Engine::tell_log(LogLevel level, std::string_view line) {
  if (!config_.log || calls_ == nullptr) {
    return;
  }
  if (log_waiting_.fetch_add(1) >= kMaxLogWaiting) {
    log_waiting_.fetch_sub(1);
    return;
  }
  calls_->post([this, level, text = std::string(line)] {
    config_.log(level, text);
    log_waiting_.fetch_sub(1);
  });
}

Engine::~Engine() {
  // Before the reaper, to which it gives work.
  if (helper_events_ != nullptr) {
    helper_events_->stop();
  }
  const std::lock_guard lock(told_mutex_);
  closing_ = true;
}

void Engine::tell_refused(const jail::RefusedCall& call, bool allowed) {
  const std::lock_guard lock(told_mutex_);
  if (closing_) {
    return;
  }
  for (WorkerPool* pool : {pool_.get(), reaper_.get()}) {
    if (pool != nullptr && !pool->renew_refused().ok()) {
      log_.rate_limited_log(LogLevel::kError, "no thread to replace one that was refused a call");
    }
  }
  if (watch_ != nullptr && !watch_->renew_refused().ok()) {
    log_.rate_limited_log(LogLevel::kError, "no thread to replace the one that watches limits");
  }
  log_.rate_limited_log(LogLevel::kError,
                        absl::StrCat(jail::describe(call), allowed ? "; it was let through" : ""));
}

std::shared_ptr<ShellPool> Engine::make_shells(std::shared_ptr<const TemplateData> from) {
  return shells_->add(
      [host = Machine::Host{.kvm = kvm_, .jail = jail_.get()}, from = std::move(from)] {
        return make_machine(host, from->machine_source(), Prefetch::kYes);
      });
}

uint32_t Engine::shells_in_worker() const {
  return config_.max_shells / (config_.worker_processes + 1);
}

Status Engine::admit(uint64_t deadline_ns) {
  const uint64_t last = deadline_ns != 0 ? deadline_ns : monotonic_ns() + PressureGate::kMaxWaitNs;
  RAMET_RETURN_IF_ERROR(gate_->enter(last));
  const Status reaped = reaper_->wait_below(kMaxReaping, last);
  return absl::IsDeadlineExceeded(reaped)
             ? busy_status("machines that were killed are still being torn down", kRetryReapMs)
             : reaped;
}

void Engine::relieve() {
  // Before the threads: theirs come back to be idle.
  shells_->drop();
  if (workers_ != nullptr) {
    workers_->relieve();
  }
  jail_->give_up_idle();
  {
    const std::lock_guard lock(helpers_mutex_);
    if (helper_pool_ != nullptr) {
      helper_pool_->drop_ready();
    }
  }
  // A teardown that takes longer frees what it has later: the caller need not wait for it.
  reaper_->drain(monotonic_ns() + kRelieveNs).IgnoreError();
}

StatusOr<UniqueFd> Engine::make_overlay_file(uint64_t size) {
  std::promise<StatusOr<UniqueFd>> made;
  opener_->post([&] {
    made.set_value(config_.scratch_directory.empty()
                       ? create_memfd("ramet-overlay", size)
                       : create_unnamed_file(config_.scratch_directory, size));
  });
  return made.get_future().get();
}

StatusOr<WorkerPool*> Engine::fork_threads() {
  const std::lock_guard lock(fork_threads_mutex_);
  if (fork_threads_ == nullptr) {
    // A fork waits for its guest half of the time.
    const uint32_t cores = std::max(1U, std::thread::hardware_concurrency());
    const uint32_t threads =
        config_.fork_threads != 0 ? config_.fork_threads : std::min(2 * cores, kMaxForkThreads);
    RAMET_ASSIGN_OR_RETURN(fork_threads_,
                           WorkerPool::start_unconfined(jail_.get(), "ramet-forks", threads));
  }
  return fork_threads_.get();
}

Status Engine::start_helpers() {
  const std::lock_guard lock(helpers_mutex_);
  if (helper_pool_ != nullptr) {
    return Status();
  }
  RAMET_RETURN_IF_ERROR(start_events_locked());
  RAMET_ASSIGN_OR_RETURN(helper_pool_,
                         helper::HelperPool::create({.jail = jail_.get(),
                                                     .kvm = kvm_->fd(),
                                                     .program = config_.helper_program,
                                                     .ready = config_.ready_helpers,
                                                     .required = config_.confinement_required,
                                                     .cgroup = config_.helper_cgroup}));
  if (const auto* given = helper_pool_->controllers();
      given != nullptr && !given->missing().empty()) {
    log_.log(LogLevel::kWarning,
             absl::StrCat("control groups of helper processes lack: ", given->missing()));
  }
  return Status();
}

Status Engine::start_events_locked() {
  if (helper_events_ == nullptr) {
    RAMET_ASSIGN_OR_RETURN(helper_events_, helper::HelperEvents::start(jail_.get()));
  }
  return Status();
}

std::string_view Engine::worker_role() const {
  switch (config_.confinement) {
    case jail::Mode::kOff:
      return helper::kWorkerOff;
    case jail::Mode::kLog:
      return helper::kWorkerLog;
    default:
      return config_.confinement_required ? helper::kWorkerRequire : helper::kWorkerEnforce;
  }
}

Status Engine::start_workers() {
  const std::lock_guard lock(helpers_mutex_);
  RAMET_RETURN_IF_ERROR(start_events_locked());
  RAMET_ASSIGN_OR_RETURN(auto pool,
                         helper::HelperPool::create({.jail = jail_.get(),
                                                     .kvm = kvm_->fd(),
                                                     .program = config_.helper_program,
                                                     .ready = 0,
                                                     .role = worker_role(),
                                                     .required = config_.confinement_required}));
  RAMET_ASSIGN_OR_RETURN(
      workers_, helper::Workers::start(
                    std::move(pool),
                    {.events = helper_events_.get(),
                     .log = &log_,
                     .refused = &refused_elsewhere_,
                     .shells = {.per_template = config_.ready_shells, .max = shells_in_worker()}},
                    config_.worker_processes));
  return Status();
}

helper::HelperHost Engine::machine_host_apart() {
  return {.pool = helper_pool_.get(),
          .events = helper_events_.get(),
          .calls = calls_.get(),
          .reaper = reaper_.get(),
          .log = &log_,
          .make_overlay_file = [this](uint64_t size) { return make_overlay_file(size); },
          .host_port_offset = next_port_offset()};
}

StatusOr<helper::HelperHost> Engine::helper_host() {
  RAMET_RETURN_IF_ERROR(start_helpers());
  return machine_host_apart();
}

StatusOr<Engine::WorkerPlace> Engine::worker_place(uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(auto seat, workers_->choose(deadline_ns));
  return WorkerPlace{machine_host_apart(), std::move(seat)};
}

StatusOr<jail::Enclosure> Engine::enclosure(uint64_t deadline_ns) {
  RAMET_RETURN_IF_ERROR(start_helpers());
  return helper_pool_->enclosure(deadline_ns);
}

uint32_t Engine::next_port_offset() {
  return next_port_offset_.fetch_add(1, std::memory_order_relaxed) * kPortsPerMachine;
}

InstanceHost Engine::instance_host() {
  return {.machine = {.kvm = kvm_, .jail = jail_.get()},
          .workers = pool_.get(),
          .calls = calls_.get(),
          .log = &log_,
          .watch = watch_.get(),
          .make_overlay_file = [this](uint64_t size) { return make_overlay_file(size); },
          .host_port_offset = next_port_offset()};
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
