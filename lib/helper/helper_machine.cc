#include "lib/helper/helper_machine.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "lib/helper/wire/plan.h"
#include "lib/helper/wire/snapshot.h"
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
constexpr uint64_t kSnapshotWithin = 120'000 * kMillisecond;

uint64_t answer_deadline() { return monotonic_ns() + kAnswerWithin; }

StatusOr<dev_t> device_of(int fd) {
  struct stat found = {};
  RAMET_RETURN_IF_ERROR(sys::fstat(fd, &found).status("find what a disk lies on"));
  return found.st_dev;
}

// What a helper's control group and the kernel's limits hold it to.
Status bound(HelperProcess* process, const HelperFork& what, const std::deque<UniqueFd>& overlays) {
  const uint64_t guest_bytes = total_bytes(what.from.state->machine.regions);
  std::vector<dev_t> devices;
  for (const int fd : files_of(*what.from.disks, {})) {
    RAMET_ASSIGN_OR_RETURN(const dev_t device, device_of(fd));
    devices.push_back(device);
  }
  for (const UniqueFd& overlay : overlays) {
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
  Ports(std::shared_ptr<MachineHome> home, std::shared_ptr<StreamGroup> streams)
      : home_(std::move(home)), streams_(std::move(streams)) {}

  StatusOr<std::unique_ptr<ByteStream>> connect(uint32_t guest_port) override {
    RAMET_RETURN_IF_ERROR(streams_->ended());
    if (UniqueFd begun = take_begun(guest_port); begun.valid()) {
      return converse_by(std::move(begun));
    }
    RAMET_ASSIGN_OR_RETURN(auto ends, message_socket_pair());
    const int theirs = ends[1].get();
    const Status asked =
        home_->channel().request(Connect{guest_port}, answer_deadline(), {&theirs, 1});
    if (absl::IsUnavailable(asked)) {
      // Nobody can reach it any more, whether it lives or not; whoever asks next finds it told.
      home_->kill_unless_ending(kEndsWithin);
      streams_->wait_ended(kEventWithin).IgnoreError();
    }
    RAMET_RETURN_IF_ERROR(asked);
    return converse_by(std::move(ends[0]));
  }
  // The other end of `socket` is a conversation with this port, for the first who asks for one.
  void begun(uint32_t guest_port, UniqueFd socket) {
    const std::lock_guard lock(mutex_);
    begun_port_ = guest_port;
    begun_ = std::move(socket);
  }
  void shutdown_all(const Status& reason) override { streams_->end(reason); }
  // Each is two descriptors here and one there.
  bool idle_is_cheap() const override { return false; }

 private:
  UniqueFd take_begun(uint32_t guest_port) {
    const std::lock_guard lock(mutex_);
    return begun_port_ == guest_port ? std::move(begun_) : UniqueFd();
  }
  StatusOr<std::unique_ptr<ByteStream>> converse_by(UniqueFd socket) {
    RAMET_ASSIGN_OR_RETURN(auto stream, SocketStream::create(std::move(socket), streams_));
    return std::unique_ptr<ByteStream>(std::move(stream));
  }

  const std::shared_ptr<MachineHome> home_;
  const std::shared_ptr<StreamGroup> streams_;
  std::mutex mutex_;
  uint32_t begun_port_ = 0;
  UniqueFd begun_;
};

HelperMachine::HelperMachine(const HelperHost& host, std::shared_ptr<MachineHome> home)
    : host_(host),
      home_(std::move(home)),
      streams_(std::make_shared<StreamGroup>()),
      own_ports_(std::make_shared<Ports>(home_, streams_)),
      ports_(own_ports_) {}

HelperMachine::~HelperMachine() { stop(); }

StatusOr<std::unique_ptr<ForkedMachine>> HelperMachine::fork(const HelperHost& host,
                                                             HelperFork what) {
  RAMET_ASSIGN_OR_RETURN(auto taken, host.pool->take(what.deadline_ns));
  const std::shared_ptr<HelperProcess> process = std::move(taken);
  std::unique_ptr<HelperMachine> self(new HelperMachine(host, process));
  const auto begin = [&]() -> Status {
    RAMET_ASSIGN_OR_RETURN(const PlanFiles plan,
                           send_plan(&process->channel(), what.from, answer_deadline()));
    RAMET_RETURN_IF_ERROR(self->prepare(what));
    RAMET_RETURN_IF_ERROR(bound(process.get(), what, self->overlays_));
    return self->begin(what, 0, {plan.memory.get(), plan.plan.get()});
  };
  RAMET_RETURN_IF_ERROR(annotate(self->why_gone(begin()), "fork into a helper process"));
  return std::unique_ptr<ForkedMachine>(std::move(self));
}

StatusOr<std::unique_ptr<ForkedMachine>> HelperMachine::fork_in(
    const std::shared_ptr<const WorkerProcess::Seat>& seat, const HelperHost& host,
    HelperFork what) {
  WorkerProcess& worker = WorkerProcess::of(*seat);
  auto learned = worker.learn(what.image, what.from, answer_deadline());
  auto home = learned.ok() ? worker.open_machine(seat, answer_deadline()) : learned.status();
  if (!home.ok()) {
    const Status why = absl::IsUnavailable(home.status()) ? worker.why_gone() : Status();
    return annotate(why.ok() ? home.status() : why, "fork into a worker process");
  }
  std::unique_ptr<HelperMachine> self(new HelperMachine(host, *std::move(home)));
  self->learned_ = *std::move(learned);
  if (what.learned != nullptr) {
    what.learned->add(self->learned_);
  }
  const auto begin = [&]() -> Status {
    RAMET_RETURN_IF_ERROR(self->prepare(what));
    return self->begin(what, WorkerProcess::id_of(*self->learned_), {});
  };
  RAMET_RETURN_IF_ERROR(annotate(self->why_gone(begin()), "fork into a worker process"));
  return std::unique_ptr<ForkedMachine>(std::move(self));
}

Status HelperMachine::prepare(const HelperFork& what) {
  regions_ = what.from.state->machine.regions;
  vcpus_ = what.from.state->machine.vcpus.size();
  scratch_ = what.from.disks->scratch;
  return scratch_ == nullptr ? Status() : add_overlay();
}

Status HelperMachine::add_overlay() {
  RAMET_ASSIGN_OR_RETURN(auto file, host_.make_overlay_file(scratch_->size_bytes()));
  overlays_.push_back(std::move(file));
  return Status();
}

Status HelperMachine::begin(const HelperFork& what, uint64_t template_id, std::vector<int> files) {
  for (const UniqueFd& overlay : overlays_) {
    files.push_back(overlay.get());
  }
  std::array<UniqueFd, 2> conversation;
  if (what.first_port != 0) {
    RAMET_ASSIGN_OR_RETURN(conversation, message_socket_pair());
    files.push_back(conversation[1].get());
  }
  link_ = std::make_shared<HelperLink>(HelperLink::Parts{.home = home_,
                                                         .streams = streams_,
                                                         .calls = host_.calls,
                                                         .reaper = host_.reaper,
                                                         .log = host_.log},
                                       what.console);
  RAMET_ASSIGN_OR_RETURN(events_id_, host_.events->add(home_->take_events(), link_));
  const uint64_t asked_ns = monotonic_ns();
  RAMET_ASSIGN_OR_RETURN(
      const Forked forked,
      home_->channel().fork(Fork{.template_id = template_id,
                                 .generation = what.generation,
                                 .host_port_offset = host_.host_port_offset,
                                 .wants_console = static_cast<bool>(what.console),
                                 .first_port = what.first_port,
                                 .prefetch = what.prefetch,
                                 .take_shell = what.take_shell,
                                 .refill_shells = what.refill_shells,
                                 .limits = what.limits},
                            answer_deadline(), files));
  ready_ns_ = std::clamp(forked.ready_ns, asked_ns, monotonic_ns());
  if (what.first_port != 0) {
    own_ports_->begun(what.first_port, std::move(conversation[0]));
    runs_ahead_ = true;
  }
  return Status();
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
  } else if (absl::IsFailedPrecondition(status) || !reason_of(status).empty()) {
    // It has ended, and the event that says so to all is on its way.
    link_->wait_told(kEventWithin);
  } else if (absl::IsUnavailable(status)) {
    // Nobody can reach it any more, whether it lives or not.
    home_->kill_unless_ending(kEndsWithin);
    link_->wait_told(kEventWithin);
  }
  return status;
}

Status HelperMachine::resume() {
  if (std::exchange(runs_ahead_, false)) {
    return Status();
  }
  return judge(home_->channel().request(Resume{}, answer_deadline()));
}

Status HelperMachine::pause() {
  runs_ahead_ = false;
  return judge(home_->channel().request(Pause{}, answer_deadline()));
}

// What fails here is told and copied again with the next snapshot.
Status HelperMachine::add_layers(std::span<const std::vector<block::BlockRun>> layers) {
  for (const auto& runs : layers) {
    if (overlays_.empty()) {
      return absl::DataLossError("a snapshot has more disk layers than there were files for them");
    }
    RAMET_ASSIGN_OR_RETURN(scratch_, with_copy(*scratch_, overlays_.front().get(), runs));
    overlays_.pop_front();
    ++known_layers_;
  }
  return Status();
}

StatusOr<std::shared_ptr<const block::LayerStack>> HelperMachine::with_copy(
    const block::LayerStack& below, int overlay, std::span<const block::BlockRun> runs) const {
  const uint64_t size = below.size_bytes();
  const sys::Result duplicate = sys::fcntl(overlay, F_DUPFD_CLOEXEC, 0);
  RAMET_RETURN_IF_ERROR(duplicate.status("duplicate a disk overlay's descriptor"));
  RAMET_ASSIGN_OR_RETURN(auto theirs,
                         block::DiskFile::adopt(UniqueFd(static_cast<int>(duplicate.value)),
                                                "disk overlay", block::Access::kReadOnly));
  RAMET_ASSIGN_OR_RETURN(const auto nothing, block::LayerStack::create(nullptr, size));
  RAMET_ASSIGN_OR_RETURN(const auto written, nothing->import_layer(std::move(theirs), runs));
  RAMET_ASSIGN_OR_RETURN(UniqueFd copy, host_.make_overlay_file(size));
  RAMET_ASSIGN_OR_RETURN(const auto copied, written->export_layers(copy.get()));
  RAMET_ASSIGN_OR_RETURN(
      auto layer, block::DiskFile::adopt(std::move(copy), "disk layer", block::Access::kReadOnly));
  return below.import_layer(std::move(layer), copied);
}

StatusOr<InstanceSnapshot> HelperMachine::try_snapshot() {
  const uint64_t guest_bytes = total_bytes(regions_);
  RAMET_ASSIGN_OR_RETURN(const MemoryUse use, home_->channel().ask_memory(answer_deadline()));
  const uint64_t expected = std::min(use.private_bytes, guest_bytes);
  RAMET_ASSIGN_OR_RETURN(UniqueFd pages, create_memfd("ramet-capture", guest_bytes));
  if (expected != 0) {
    RAMET_RETURN_IF_ERROR(sys::allocate(pages.get(), 0, expected));
  }
  RAMET_ASSIGN_OR_RETURN(const UniqueFd result, create_memfd("ramet-snapshot", kSnapshotRoom));
  std::vector<int> files = {result.get(), pages.get()};
  if (scratch_ != nullptr && needs_overlay_) {
    RAMET_RETURN_IF_ERROR(add_overlay());
    files.push_back(overlays_.back().get());
  }
  const auto taken =
      home_->channel().take_snapshot({.expected_bytes = expected, .known_layers = known_layers_},
                                     monotonic_ns() + kSnapshotWithin, files);
  // Where it failed nobody knows whether it came as far as the disk.
  needs_overlay_ = true;
  RAMET_RETURN_IF_ERROR(taken.status());
  if (taken->result_bytes > kSnapshotRoom) {
    return absl::DataLossError("a snapshot's state lies beyond its file");
  }
  std::vector<std::byte> bytes(taken->result_bytes);
  RAMET_RETURN_IF_ERROR(sys::pread_exactly(result.get(), bytes, 0, "read a snapshot's state"));
  const SnapshotBounds bounds = {.pages = guest_bytes / kPageSize,
                                 .blocks = scratch_ == nullptr ? 0 : scratch_->blocks()};
  RAMET_ASSIGN_OR_RETURN(auto said, decode_snapshot(bytes, bounds));
  if (said.state.machine.regions != regions_ || said.state.machine.vcpus.size() != vcpus_) {
    return absl::DataLossError("a snapshot is of another machine");
  }
  needs_overlay_ = !said.layers.empty();
  RAMET_RETURN_IF_ERROR(add_layers(said.layers));
  return InstanceSnapshot{.state = std::move(said.state),
                          .scratch = scratch_,
                          .pages = PageCapture::of(std::move(pages), std::move(said.pages)),
                          .pause_ns = taken->pause_ns};
}

StatusOr<InstanceSnapshot> HelperMachine::snapshot() {
  auto snapshot = try_snapshot();
  if (!snapshot.ok()) {
    return judge(snapshot.status());
  }
  return snapshot;
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
