#include "lib/helper/helper_machine.h"

#include <sys/stat.h>

#include <chrono>
#include <span>
#include <utility>
#include <vector>

#include "devices/vsock/muxer.h"
#include "lib/helper/wire/plan.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/socket.h"
#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
// For what a helper does without its guest's help; a machine under a debugger or on a host that
// swaps takes long.
constexpr uint64_t kAnswerWithin = 10'000 * kMillisecond;
constexpr int kEndsWithin = 100;  // milliseconds
constexpr std::chrono::milliseconds kEventWithin(1000);
constexpr uint64_t kMetricsWithin = 100 * kMillisecond;

uint64_t answer_deadline() { return monotonic_ns() + kAnswerWithin; }

StatusOr<dev_t> device_of(int fd) {
  struct stat found = {};
  RAMET_RETURN_IF_ERROR(sys::fstat(fd, &found).status("find what a disk lies on"));
  return found.st_dev;
}

// What a helper's control group and the kernel's limits hold it to.
Status bound(HelperProcess* process, const HelperFork& what, const UniqueFd& overlay) {
  uint64_t guest_bytes = 0;
  for (const auto& region : what.from.state->machine.regions) {
    guest_bytes += region.size;
  }
  std::vector<dev_t> devices;
  for (const int fd : files_of(*what.from.disks, {})) {
    RAMET_ASSIGN_OR_RETURN(const dev_t device, device_of(fd));
    devices.push_back(device);
  }
  if (overlay.valid()) {
    RAMET_ASSIGN_OR_RETURN(const dev_t device, device_of(overlay.get()));
    devices.push_back(device);
  }
  const auto& scratch = what.from.disks->scratch;
  const auto vcpus = static_cast<uint32_t>(what.from.state->machine.vcpus.size());
  return process->bound(
      bounds_of(what.limits, guest_bytes, vcpus, scratch == nullptr ? 0 : scratch->size_bytes()),
      what.limits, std::move(devices));
}

}  // namespace

class HelperMachine::Ports final : public GuestPorts {
 public:
  Ports(std::shared_ptr<MachineHome> home, std::shared_ptr<StreamGroup> streams,
        uint64_t max_connections)
      : home_(std::move(home)), streams_(std::move(streams)), max_connections_(max_connections) {}

  StatusOr<std::unique_ptr<ByteStream>> connect(uint32_t guest_port) override {
    RAMET_RETURN_IF_ERROR(streams_->ended());
    RAMET_ASSIGN_OR_RETURN(auto ends, message_socket_pair());
    const int theirs = ends[1].get();
    RAMET_RETURN_IF_ERROR(
        home_->channel().request(Connect{guest_port}, answer_deadline(), {&theirs, 1}));
    RAMET_ASSIGN_OR_RETURN(auto stream, SocketStream::create(std::move(ends[0]), streams_));
    return std::unique_ptr<ByteStream>(std::move(stream));
  }
  uint64_t max_connections() const override { return max_connections_; }
  void shutdown_all(const Status& reason) override { streams_->end(reason); }

 private:
  const std::shared_ptr<MachineHome> home_;
  const std::shared_ptr<StreamGroup> streams_;
  const uint64_t max_connections_;
};

HelperMachine::HelperMachine(const HelperHost& host, std::shared_ptr<MachineHome> home,
                             const InstanceLimits& limits)
    : host_(host),
      home_(std::move(home)),
      streams_(std::make_shared<StreamGroup>()),
      ports_(std::make_shared<Ports>(
          home_, streams_, limits.connections == 0 ? vsock::kMaxConnections : limits.connections)) {
}

HelperMachine::~HelperMachine() { stop(); }

StatusOr<std::unique_ptr<ForkedMachine>> HelperMachine::fork(const HelperHost& host,
                                                             HelperFork what) {
  RAMET_ASSIGN_OR_RETURN(auto taken, host.pool->take(what.deadline_ns));
  const std::shared_ptr<HelperProcess> process = std::move(taken);
  std::unique_ptr<HelperMachine> self(new HelperMachine(host, process, what.limits));
  const auto begin = [&]() -> Status {
    RAMET_ASSIGN_OR_RETURN(const PlanFiles plan,
                           send_plan(&process->channel(), what.from, answer_deadline()));
    RAMET_ASSIGN_OR_RETURN(const UniqueFd overlay, self->make_overlay(what));
    RAMET_RETURN_IF_ERROR(bound(process.get(), what, overlay));
    return self->begin(what, 0, {plan.memory.get(), plan.plan.get()}, overlay);
  };
  RAMET_RETURN_IF_ERROR(annotate(self->why_gone(begin()), "fork into a helper process"));
  return std::unique_ptr<ForkedMachine>(std::move(self));
}

StatusOr<std::unique_ptr<ForkedMachine>> HelperMachine::fork_in(
    std::shared_ptr<const WorkerProcess::Seat> seat, const HelperHost& host, HelperFork what) {
  WorkerProcess& worker = WorkerProcess::of(*seat);
  auto learned = worker.learn(what.image, what.from, answer_deadline());
  auto home = learned.ok() ? worker.open_machine(seat, answer_deadline()) : learned.status();
  if (!home.ok()) {
    const Status why = absl::IsUnavailable(home.status()) ? worker.why_gone() : Status();
    return annotate(why.ok() ? home.status() : why, "fork into a worker process");
  }
  std::unique_ptr<HelperMachine> self(new HelperMachine(host, *std::move(home), what.limits));
  self->learned_ = *std::move(learned);
  const auto begin = [&]() -> Status {
    RAMET_ASSIGN_OR_RETURN(const UniqueFd overlay, self->make_overlay(what));
    return self->begin(what, WorkerProcess::id_of(*self->learned_), {}, overlay);
  };
  RAMET_RETURN_IF_ERROR(annotate(self->why_gone(begin()), "fork into a worker process"));
  return std::unique_ptr<ForkedMachine>(std::move(self));
}

StatusOr<UniqueFd> HelperMachine::make_overlay(const HelperFork& what) const {
  const auto& scratch = what.from.disks->scratch;
  return scratch == nullptr ? UniqueFd() : host_.make_overlay_file(scratch->size_bytes());
}

Status HelperMachine::begin(const HelperFork& what, uint64_t template_id, std::vector<int> files,
                            const UniqueFd& overlay) {
  if (overlay.valid()) {
    files.push_back(overlay.get());
  }
  link_ = std::make_shared<HelperLink>(HelperLink::Parts{.home = home_,
                                                         .streams = streams_,
                                                         .calls = host_.calls,
                                                         .reaper = host_.reaper,
                                                         .log = host_.log},
                                       what.console);
  RAMET_ASSIGN_OR_RETURN(events_id_, host_.events->add(home_->take_events(), link_));
  return home_->channel().request(Fork{.template_id = template_id,
                                       .generation = what.generation,
                                       .host_port_offset = host_.host_port_offset,
                                       .wants_console = static_cast<bool>(what.console),
                                       .limits = what.limits},
                                  answer_deadline(), files);
}

Status HelperMachine::why_gone(const Status& status) const {
  if (!absl::IsUnavailable(status)) {
    return status;
  }
  home_->kill_unless_ending(kEndsWithin);
  const Status end = home_->wait_end();
  return end.ok() ? status : end;
}

Status HelperMachine::judge(Status status) {
  if (absl::IsDeadlineExceeded(status) || absl::IsDataLoss(status)) {
    home_->kill();
  } else if (absl::IsFailedPrecondition(status)) {
    // It has ended, and the event that says why is on its way.
    link_->wait_told(kEventWithin);
  }
  return status;
}

Status HelperMachine::resume() {
  return judge(home_->channel().request(Resume{}, answer_deadline()));
}

Status HelperMachine::pause() {
  return judge(home_->channel().request(Pause{}, answer_deadline()));
}

void HelperMachine::abandon() {
  if (link_ != nullptr) {
    link_->forget();
  }
  home_->kill();
}

void HelperMachine::stop() {
  abandon();
  if (link_ != nullptr) {
    host_.events->remove(events_id_);
    link_->close_console();
  }
  home_->wait_end().IgnoreError();
}

void HelperMachine::on_end(std::function<void(const Status&)> function) {
  link_->on_end(std::move(function));
}

InstanceMetrics HelperMachine::metrics() {
  InstanceMetrics metrics;
  if (link_->last_metrics(&metrics)) {
    return metrics;
  }
  if (auto asked = home_->channel().ask_metrics(monotonic_ns() + kMetricsWithin); asked.ok()) {
    link_->note_metrics(*asked);
    return *asked;
  }
  return metrics;
}

StatusOr<MemoryUse> HelperMachine::memory_use() {
  return home_->channel().ask_memory(monotonic_ns() + kMetricsWithin);
}

}  // namespace ramet::helper
