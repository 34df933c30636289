#include "lib/helper/helper_machine.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <span>
#include <utility>
#include <vector>

#include <absl/strings/str_format.h>

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

// A descriptor of the same file that nothing can be written through, whatever the other may do.
StatusOr<UniqueFd> read_only(int fd) {
  return sys::open(absl::StrFormat("/proc/self/fd/%d", fd), O_RDONLY);
}

struct ReadOnlyFiles {
  std::vector<UniqueFd> owned;
  std::vector<int> numbers;

  Status add(int fd) {
    RAMET_ASSIGN_OR_RETURN(auto file, read_only(fd));
    numbers.push_back(file.get());
    owned.push_back(std::move(file));
    return Status();
  }
};

StatusOr<dev_t> device_of(int fd) {
  struct stat found = {};
  RAMET_RETURN_IF_ERROR(sys::fstat(fd, &found).status("find what a disk lies on"));
  return found.st_dev;
}

StatusOr<UniqueFd> plan_file(const HelperFork& what) {
  const auto bytes = encode_plan(*what.state, *what.disks, what.memory);
  RAMET_ASSIGN_OR_RETURN(auto file, create_memfd("ramet-plan", 0));
  RAMET_RETURN_IF_ERROR(sys::write_all(file.get(), bytes, "write a plan for a helper process"));
  return file;
}

}  // namespace

class HelperMachine::Ports final : public GuestPorts {
 public:
  Ports(std::shared_ptr<HelperProcess> process, std::shared_ptr<StreamGroup> streams,
        uint64_t max_connections)
      : process_(std::move(process)),
        streams_(std::move(streams)),
        max_connections_(max_connections) {}

  StatusOr<std::unique_ptr<ByteStream>> connect(uint32_t guest_port) override {
    RAMET_RETURN_IF_ERROR(streams_->ended());
    RAMET_ASSIGN_OR_RETURN(auto ends, message_socket_pair());
    const int theirs = ends[1].get();
    RAMET_RETURN_IF_ERROR(process_->request(Connect{guest_port}, answer_deadline(), {&theirs, 1}));
    RAMET_ASSIGN_OR_RETURN(auto stream, SocketStream::create(std::move(ends[0]), streams_));
    return std::unique_ptr<ByteStream>(std::move(stream));
  }
  uint64_t max_connections() const override { return max_connections_; }
  void shutdown_all(const Status& reason) override { streams_->end(reason); }

 private:
  const std::shared_ptr<HelperProcess> process_;
  const std::shared_ptr<StreamGroup> streams_;
  const uint64_t max_connections_;
};

HelperMachine::HelperMachine(const HelperHost& host, std::shared_ptr<HelperProcess> process,
                             const InstanceLimits& limits)
    : host_(host),
      process_(std::move(process)),
      streams_(std::make_shared<StreamGroup>()),
      ports_(std::make_shared<Ports>(
          process_, streams_,
          limits.connections == 0 ? vsock::kMaxConnections : limits.connections)) {}

HelperMachine::~HelperMachine() { stop(); }

StatusOr<std::unique_ptr<ForkedMachine>> HelperMachine::fork(const HelperHost& host,
                                                             HelperFork what) {
  RAMET_ASSIGN_OR_RETURN(auto process, host.pool->take(what.deadline_ns));
  std::unique_ptr<HelperMachine> self(new HelperMachine(host, std::move(process), what.limits));
  const Status begun = self->begin(std::move(what));
  RAMET_RETURN_IF_ERROR(annotate(self->why_gone(begun), "fork into a helper process"));
  return std::unique_ptr<ForkedMachine>(std::move(self));
}

Status HelperMachine::begin(HelperFork what) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd plan, plan_file(what));
  ReadOnlyFiles disks;
  for (const int fd : files_of(*what.disks, what.memory)) {
    RAMET_RETURN_IF_ERROR(disks.add(fd));
  }
  std::span<const int> left(disks.numbers);
  while (!left.empty()) {
    const auto part = left.first(std::min(left.size(), kMaxMessageFiles));
    RAMET_RETURN_IF_ERROR(process_->request(Files{}, answer_deadline(), part));
    left = left.subspan(part.size());
  }
  ReadOnlyFiles memory;
  RAMET_RETURN_IF_ERROR(memory.add(what.memory.fd));
  std::vector<int> files = {memory.numbers[0], plan.get()};
  UniqueFd overlay;
  if (what.disks->scratch != nullptr) {
    RAMET_ASSIGN_OR_RETURN(overlay, host_.make_overlay_file(what.disks->scratch->size_bytes()));
    files.push_back(overlay.get());
  }
  const size_t of_disks = files_of(*what.disks, {}).size();
  RAMET_RETURN_IF_ERROR(bound(what, std::span(disks.numbers).first(of_disks), overlay.get()));
  link_ = std::make_shared<HelperLink>(HelperLink::Parts{.process = process_,
                                                         .streams = streams_,
                                                         .calls = host_.calls,
                                                         .reaper = host_.reaper,
                                                         .log = host_.log},
                                       what.console);
  RAMET_ASSIGN_OR_RETURN(events_id_, host_.events->add(process_->take_events(), link_));
  return process_->request(Fork{.generation = what.generation,
                                .host_port_offset = host_.host_port_offset,
                                .wants_console = static_cast<bool>(what.console),
                                .limits = what.limits},
                           answer_deadline(), files);
}

Status HelperMachine::bound(const HelperFork& what, std::span<const int> disks, int overlay) {
  uint64_t guest_bytes = 0;
  for (const auto& region : what.state->machine.regions) {
    guest_bytes += region.size;
  }
  std::vector<dev_t> devices;
  for (const int fd : disks) {
    RAMET_ASSIGN_OR_RETURN(const dev_t device, device_of(fd));
    devices.push_back(device);
  }
  uint64_t overlay_bytes = 0;
  if (overlay >= 0) {
    overlay_bytes = what.disks->scratch->size_bytes();
    RAMET_ASSIGN_OR_RETURN(const dev_t device, device_of(overlay));
    devices.push_back(device);
  }
  const auto vcpus = static_cast<uint32_t>(what.state->machine.vcpus.size());
  return process_->bound(bounds_of(what.limits, guest_bytes, vcpus, overlay_bytes), what.limits,
                         std::move(devices));
}

Status HelperMachine::why_gone(const Status& status) const {
  if (!absl::IsUnavailable(status)) {
    return status;
  }
  process_->kill_unless_ending(kEndsWithin);
  const Status end = process_->wait_end();
  return end.ok() ? status : end;
}

Status HelperMachine::judge(Status status) {
  if (absl::IsDeadlineExceeded(status) || absl::IsDataLoss(status)) {
    process_->kill();
  } else if (absl::IsFailedPrecondition(status)) {
    // It has ended, and the event that says why is on its way.
    link_->wait_told(kEventWithin);
  }
  return status;
}

Status HelperMachine::resume() { return judge(process_->request(Resume{}, answer_deadline())); }

Status HelperMachine::pause() { return judge(process_->request(Pause{}, answer_deadline())); }

void HelperMachine::abandon() {
  if (link_ != nullptr) {
    link_->forget();
  }
  process_->kill();
}

void HelperMachine::stop() {
  abandon();
  if (link_ != nullptr) {
    host_.events->remove(events_id_);
    link_->close_console();
  }
  process_->wait_end().IgnoreError();
}

void HelperMachine::on_end(std::function<void(const Status&)> function) {
  link_->on_end(std::move(function));
}

InstanceMetrics HelperMachine::metrics() {
  InstanceMetrics metrics;
  if (link_->last_metrics(&metrics)) {
    return metrics;
  }
  if (auto asked = process_->ask_metrics(monotonic_ns() + kMetricsWithin); asked.ok()) {
    link_->note_metrics(*asked);
    return *asked;
  }
  return metrics;
}

StatusOr<MemoryUse> HelperMachine::memory_use() {
  return process_->ask_memory(monotonic_ns() + kMetricsWithin);
}

}  // namespace ramet::helper
