#include "lib/helper/process.h"

#include <poll.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <utility>

#include <absl/strings/str_format.h>

#include "lib/helper/wire/build.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/socket.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kHelloWithin = 10'000 * kMillisecond;
constexpr size_t kReplyRoom = 2 * kMaxText;

Status gone() { return absl::UnavailableError("the helper process has ended"); }

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
      control_(std::move(control)),
      room_(kReplyRoom),
      pidfd_(std::move(process.pidfd)) {}

StatusOr<std::unique_ptr<HelperProcess>> HelperProcess::start(
    int program, int kvm, std::unique_ptr<jail::Cgroup> cgroup) {
  RAMET_ASSIGN_OR_RETURN(auto control, message_socket_pair());
  RAMET_ASSIGN_OR_RETURN(auto events, message_socket_pair());
  const std::array<int, kHelperFds> files = {control[1].get(), events[1].get(), kvm};
  RAMET_ASSIGN_OR_RETURN(auto process,
                         jail::spawn({.program = program,
                                      .files = files,
                                      .cgroup_procs = cgroup == nullptr ? -1 : cgroup->procs()}));
  std::unique_ptr<HelperProcess> self(new HelperProcess(
      std::move(process), std::move(cgroup), std::move(control[0]), std::move(events[0])));
  // Its own copies are the only ones now, so that its end is the end of the connection.
  control[1].reset();
  events[1].reset();
  RAMET_RETURN_IF_ERROR(annotate(self->await_hello(), "start a helper process"));
  return self;
}

HelperProcess::~HelperProcess() {
  kill();
  wait_end().IgnoreError();
}

Status HelperProcess::await_hello() {
  const std::lock_guard lock(mutex_);
  auto reply = receive(0, monotonic_ns() + kHelloWithin);
  RAMET_RETURN_IF_ERROR(reply.status());
  if (const auto* failed = std::get_if<Done>(&*reply); failed != nullptr && !failed->status.ok()) {
    return failed->status;
  }
  const auto* hello = std::get_if<Hello>(&*reply);
  if (hello == nullptr || hello->build != kBuild) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the helper program is no \"%s\" but \"%s\"", std::string(kBuild),
                        hello == nullptr ? "something else" : hello->build));
  }
  enclosure_ = hello->enclosure;
  return Status();
}

StatusOr<Reply> HelperProcess::receive(Sequence number, uint64_t deadline_ns) {
  while (true) {
    const auto got = receive_message(control_.get(), room_, Blocking::kDontWait);
    if (got.ok() && got->bytes < sizeof number) {
      return gone();
    }
    if (!got.ok() && !absl::IsUnavailable(got.status())) {
      return got.status();
    }
    Sequence answered = 0;
    std::memcpy(&answered, room_.data(), sizeof answered);
    if (got.ok() && answered == number) {
      return decode_reply(std::span(room_).subspan(sizeof answered, got->bytes - sizeof answered));
    }
    const uint64_t now = monotonic_ns();
    if (deadline_ns != 0 && now >= deadline_ns) {
      return absl::DeadlineExceededError("the helper process did not answer in time");
    }
    if (got.ok()) {
      continue;
    }
    const uint64_t left = deadline_ns == 0 ? 1000 * kMillisecond : deadline_ns - now;
    pollfd ready = {.fd = control_.get(), .events = POLLIN, .revents = 0};
    RAMET_RETURN_IF_ERROR(sys::poll({&ready, 1}, static_cast<int>(std::min(left / kMillisecond + 1,
                                                                           1000 * kMillisecond)))
                              .status("wait for a helper process"));
  }
}

StatusOr<Reply> HelperProcess::converse(const Request& request, uint64_t deadline_ns,
                                        std::span<const int> files) {
  std::unique_lock lock(mutex_, std::defer_lock);
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  if (!lock.try_lock_until(deadline)) {
    return absl::DeadlineExceededError("the helper process is still at another request");
  }
  RAMET_RETURN_IF_ERROR(broken_);
  const Sequence number = ++last_;
  const sys::Result sent =
      send_message(control_.get(), std::as_bytes(std::span<const Sequence, 1>(&number, 1)),
                   encode(request), Blocking::kDontWait, files);
  auto reply = sent.ok() ? receive(number, deadline_ns) : StatusOr<Reply>(gone());
  if (!reply.ok() && !absl::IsDeadlineExceeded(reply.status())) {
    broken_ = reply.status();
  }
  return reply;
}

Status HelperProcess::request(const Request& request, uint64_t deadline_ns,
                              std::span<const int> files) {
  RAMET_ASSIGN_OR_RETURN(const Reply reply, converse(request, deadline_ns, files));
  const auto* done = std::get_if<Done>(&reply);
  return done != nullptr ? done->status
                         : absl::DataLossError("the helper process answered something else");
}

template <typename Answer>
StatusOr<Answer> HelperProcess::ask(const Request& request, uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(const Reply reply, converse(request, deadline_ns, {}));
  if (const auto* answer = std::get_if<Answer>(&reply)) {
    return *answer;
  }
  const auto* done = std::get_if<Done>(&reply);
  return done != nullptr && !done->status.ok()
             ? done->status
             : absl::DataLossError("the helper process answered something else");
}

StatusOr<InstanceMetrics> HelperProcess::ask_metrics(uint64_t deadline_ns) {
  return ask<InstanceMetrics>(AskMetrics{}, deadline_ns);
}

StatusOr<MemoryUse> HelperProcess::ask_memory(uint64_t deadline_ns) {
  return ask<MemoryUse>(AskMemory{}, deadline_ns);
}

bool HelperProcess::alive() const {
  const std::lock_guard lock(mutex_);
  pollfd ready = {.fd = control_.get(), .events = 0, .revents = 0};
  return sys::poll({&ready, 1}, 0).value == 0;
}

void HelperProcess::kill() {
  killed_ = true;
  // Whoever holds it kills the process too, or waits for one that was killed already.
  const std::unique_lock lock(end_mutex_, std::try_to_lock);
  if (lock.owns_lock() && !end_) {
    jail::kill_process(pidfd_.get());
  }
}

void HelperProcess::kill_unless_ending(int milliseconds) {
  const std::lock_guard lock(end_mutex_);
  if (end_) {
    return;
  }
  pollfd ended = {.fd = pidfd_.get(), .events = POLLIN, .revents = 0};  // pidfd_open(2)
  if (sys::poll({&ended, 1}, milliseconds).value != 1) {
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
  const std::lock_guard lock(mutex_);
  if (broken_.ok()) {
    broken_ = gone();
  }
  control_.reset();
  return *end_;
}

}  // namespace ramet::helper
