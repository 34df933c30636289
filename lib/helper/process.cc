#include "lib/helper/process.h"

#include <poll.h>

#include <array>
#include <csignal>
#include <string>
#include <utility>

#include <absl/strings/str_format.h>

#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/socket.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kHelloWithin = 10'000 * kMillisecond;
constexpr uint64_t kSecondNs = 1'000 * kMillisecond;
constexpr uint64_t kPage = 4096;
// RLIMIT_CPU counts whole ticks, a process's usage is told exactly: on an emulated processor 6 %
// less was measured.
constexpr uint64_t kCpuSlackShare = 4;

Status refused_call() {
  return with_reason(
      absl::DataLossError("the helper process was killed for a system call that none of its "
                          "threads needs; the kernel's audit log names it"),
      reason::kCallRefused);
}

Status whole_process(const LimitHit& hit) {
  return annotate(limit_status(hit), "the helper process, with all that it did for its guest");
}

}  // namespace

HelperProcess::HelperProcess(jail::SpawnedProcess process, std::unique_ptr<jail::Cgroup> cgroup,
                             UniqueFd control, UniqueFd events)
    : cgroup_(std::move(cgroup)),
      enclosure_(process.enclosure),
      events_(std::move(events)),
      channel_(std::move(control)),
      pidfd_(std::move(process.pidfd)) {}

StatusOr<std::unique_ptr<HelperProcess>> HelperProcess::start(HelperStart how) {
  RAMET_ASSIGN_OR_RETURN(auto control, message_socket_pair());
  RAMET_ASSIGN_OR_RETURN(auto events, message_socket_pair(Blocking::kDontWait));
  const std::array<int, kHelperFds> files = {control[1].get(), events[1].get(), how.kvm};
  const std::string role(how.role);
  RAMET_ASSIGN_OR_RETURN(
      auto process,
      jail::spawn({.program = how.program,
                   .name = role.empty() ? "ramet-helper" : "ramet-worker",
                   .argument = role.empty() ? nullptr : role.c_str(),
                   .files = files,
                   .cgroup_procs = how.cgroup == nullptr ? -1 : how.cgroup->procs()}));
  std::unique_ptr<HelperProcess> self(new HelperProcess(
      std::move(process), std::move(how.cgroup), std::move(control[0]), std::move(events[0])));
  // Its own copies are the only ones now, so that its end is the end of the connection.
  control[1].reset();
  events[1].reset();
  auto hello = self->channel_.await_hello(monotonic_ns() + kHelloWithin);
  RAMET_RETURN_IF_ERROR(annotate(hello.status(), "start a helper process"));
  self->enclosure_ = hello->enclosure;
  return self;
}

HelperProcess::~HelperProcess() {
  kill();
  wait_end().IgnoreError();
}

void HelperProcess::kill() {
  killed_ = true;
  // Whoever holds it kills the process too, or waits for one that was killed already.
  const std::unique_lock lock(end_mutex_, std::try_to_lock);
  if (lock.owns_lock() && !end_) {
    jail::kill_process(pidfd_.get());
  }
}

bool HelperProcess::ends_within_locked(int milliseconds) const {
  if (end_) {
    return true;
  }
  pollfd ended = {.fd = pidfd_.get(), .events = POLLIN, .revents = 0};  // pidfd_open(2)
  return sys::poll({&ended, 1}, milliseconds).value == 1;
}

bool HelperProcess::ends_within(int milliseconds) {
  const std::lock_guard lock(end_mutex_);
  return ends_within_locked(milliseconds);
}

void HelperProcess::kill_unless_ending(int milliseconds) {
  const std::lock_guard lock(end_mutex_);
  if (!ends_within_locked(milliseconds)) {
    killed_ = true;
    jail::kill_process(pidfd_.get());
  }
}

Status HelperProcess::bound(const HelperBounds& bounds, const InstanceLimits& limits,
                            std::vector<dev_t> io_devices) {
  bounds_ = bounds;
  limits_ = limits;
  if (cgroup_ == nullptr) {
    return Status();
  }
  return cgroup_->limit({.memory_bytes = bounds.memory_bytes,
                         .cpu_ns_per_second = bounds.cpu_ns_per_second,
                         .io_bytes_per_second = bounds.io_bytes_per_second,
                         .io_devices = std::move(io_devices)});
}

Status HelperProcess::describe(const jail::ProcessEnd& end) const {
  if (end.signal == SIGKILL && killed_) {
    return Status();
  }
  if (end.signal == SIGSYS) {
    return refused_call();
  }
  const uint64_t oom_kills = cgroup_ == nullptr ? 0 : cgroup_->oom_kills().value_or(0);
  if (end.signal == SIGKILL && oom_kills != 0) {
    return whole_process(
        {LimitKind::kPrivateMemory, bounds_.memory_bytes, bounds_.memory_bytes + kPage});
  }
  const uint64_t cpu_allowed = bounds_.cpu_seconds * kSecondNs;
  if (end.signal == SIGKILL && cpu_allowed != 0 &&
      end.cpu_ns > cpu_allowed - cpu_allowed / kCpuSlackShare) {
    return whole_process({LimitKind::kCpuTime, limits_.cpu_ns, end.cpu_ns});
  }
  return with_reason(
      absl::UnavailableError(
          end.signal == 0 ? absl::StrFormat("the helper process exited with %d", end.exit_code)
                          : absl::StrFormat("the helper process died on signal %d", end.signal)),
      reason::kHelperDied);
}

Status HelperProcess::wait_end() {
  {
    const std::lock_guard lock(end_mutex_);
    if (!end_) {
      const auto end = jail::wait_process(pidfd_.get());
      end_ = end.ok() ? describe(*end) : end.status();
      pidfd_.reset();
      cgroup_.reset();
    }
  }
  channel_.close();
  return *end_;
}

}  // namespace ramet::helper
