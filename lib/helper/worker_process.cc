#include "lib/helper/worker_process.h"

#include <array>
#include <optional>
#include <utility>

#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/socket.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
// From the end of a process's descriptors to its own.
constexpr int kEndsWithin = 100;
// For the teardown of one machine; then the process is killed, with all its machines.
constexpr int kTornDownWithin = 10'000;
constexpr uint64_t kPostWithin = 1'000 * kMillisecond;
constexpr uint64_t kRelieveWithin = 10 * kMillisecond;

// What a worker says of itself; its machines have sockets of their own.
class WorkerEvents final : public EventSink {
 public:
  WorkerEvents(LogSink* log, std::atomic<uint64_t>* refused) : log_(*log), refused_(*refused) {}
  void on_event(Event event) override {
    if (const auto* line = std::get_if<LogLine>(&event)) {
      log_.rate_limited_log(line->level, line->text);
    } else if (const auto* refused = std::get_if<RefusedCalls>(&event);
               refused != nullptr && refused->count > last_refused_) {
      refused_ += refused->count - std::exchange(last_refused_, refused->count);
    }
  }
  void on_gone(const Status& /*why*/) override {}  // so do its machines

 private:
  LogSink& log_;
  std::atomic<uint64_t>& refused_;
  uint64_t last_refused_ = 0;
};

}  // namespace

class WorkerProcess::Learned {
 public:
  Learned(std::shared_ptr<WorkerProcess> worker, std::shared_ptr<const MemoryImage> image,
          uint64_t id)
      : worker_(std::move(worker)), image_(std::move(image)), id_(id) {}
  ~Learned() {
    // A process that does not hear it has other troubles.
    worker_->process_->channel().post(Forget{id_}, monotonic_ns() + kPostWithin).IgnoreError();
  }
  Learned(const Learned&) = delete;
  Learned& operator=(const Learned&) = delete;

  uint64_t id() const { return id_; }
  WorkerProcess& worker() const { return *worker_; }

 private:
  const std::shared_ptr<WorkerProcess> worker_;
  const std::shared_ptr<const MemoryImage> image_;  // whose address stands for it
  const uint64_t id_;
};

class WorkerProcess::Seat {
 public:
  explicit Seat(std::shared_ptr<WorkerProcess> worker) : worker_(std::move(worker)) {
    worker_->seats_.fetch_add(1, std::memory_order_relaxed);
  }
  ~Seat() { worker_->seats_.fetch_sub(1, std::memory_order_relaxed); }
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;

  WorkerProcess& worker() const { return *worker_; }

 private:
  const std::shared_ptr<WorkerProcess> worker_;
};

class WorkerProcess::Machine final : public MachineHome {
 public:
  Machine(std::shared_ptr<const Seat> seat, UniqueFd control, UniqueFd events)
      : seat_(std::move(seat)), channel_(std::move(control)), events_(std::move(events)) {}
  ~Machine() override {
    kill();
    wait_end().IgnoreError();
  }

  RequestChannel& channel() override { return channel_; }
  UniqueFd take_events() override { return std::move(events_); }

  void kill() override {
    killed_ = true;
    // Whoever holds it waits for an end that was asked for already, or has seen it.
    const std::unique_lock lock(end_mutex_, std::try_to_lock);
    if (lock.owns_lock() && !end_) {
      channel_.end_sending();
    }
  }
  void kill_unless_ending(int milliseconds) override {
    const std::lock_guard lock(end_mutex_);
    if (!end_ && !channel_.wait_closed(milliseconds)) {
      killed_ = true;
      channel_.end_sending();
    }
  }
  Status wait_end() override {
    const std::lock_guard lock(end_mutex_);
    if (!end_) {
      if (!channel_.wait_closed(kTornDownWithin)) {
        seat_->worker().kill();
      }
      end_ = describe();
      channel_.close();
      seat_.reset();
    }
    return *end_;
  }

 private:
  Status describe() const {
    if (killed_) {
      return Status();
    }
    const Status why = seat_->worker().why_gone();
    return !why.ok() ? why
                     : with_reason(absl::UnavailableError("the worker process let its machine go"),
                                   reason::kHelperDied);
  }

  std::shared_ptr<const Seat> seat_;  // until the end
  RequestChannel channel_;
  UniqueFd events_;
  std::mutex end_mutex_;
  std::optional<Status> end_;
  std::atomic<bool> killed_{false};
};

StatusOr<std::shared_ptr<WorkerProcess>> WorkerProcess::create(
    std::unique_ptr<HelperProcess> process, const Parts& parts) {
  std::shared_ptr<WorkerProcess> self(new WorkerProcess(std::move(process), parts.events));
  RAMET_ASSIGN_OR_RETURN(self->events_id_, parts.events->add(self->process_->take_events(),
                                                             std::make_shared<WorkerEvents>(
                                                                 parts.log, parts.refused)));
  RAMET_RETURN_IF_ERROR(self->process_->channel().post(parts.shells, monotonic_ns() + kPostWithin));
  return self;
}

WorkerProcess::~WorkerProcess() {
  if (events_id_ != 0) {
    events_.remove(events_id_);
  }
}

uint64_t WorkerProcess::id_of(const Learned& learned) { return learned.id(); }

bool WorkerProcess::is_known(const Learned& learned) { return learned.worker().alive(); }

std::shared_ptr<const WorkerProcess::Keeps::Kept> WorkerProcess::keep(
    std::shared_ptr<const Learned> learned) {
  WorkerProcess& worker = learned->worker();
  return worker.keeps_.use(std::move(learned));
}

Status WorkerProcess::teach(uint64_t id, const PlanSource& source, uint64_t deadline_ns) {
  RequestChannel& channel = process_->channel();
  RAMET_ASSIGN_OR_RETURN(const PlanFiles files, send_plan(&channel, source, deadline_ns));
  const std::array<int, 2> both = {files.memory.get(), files.plan.get()};
  return channel.request(Learn{id}, deadline_ns, both);
}

StatusOr<std::shared_ptr<const WorkerProcess::Learned>> WorkerProcess::learn(
    std::shared_ptr<const MemoryImage> image, const PlanSource& source, uint64_t deadline_ns) {
  const std::lock_guard lock(learn_mutex_);
  std::erase_if(learned_, [](const auto& each) { return each.second.expired(); });
  if (const auto found = learned_.find(image.get()); found != learned_.end()) {
    if (auto known = found->second.lock()) {
      return known;
    }
  }
  const uint64_t id = ++last_id_;
  if (const Status taught = teach(id, source, deadline_ns); !taught.ok()) {
    // What was sent of it must not count as the next one's; nor must it be known where its answer
    // only came late.
    for (const uint64_t half : {uint64_t{0}, id}) {
      process_->channel().post(Forget{half}, monotonic_ns() + kPostWithin).IgnoreError();
    }
    return taught;
  }
  const MemoryImage* const key = image.get();
  auto known = std::make_shared<const Learned>(shared_from_this(), std::move(image), id);
  learned_[key] = known;
  return known;
}

std::shared_ptr<const WorkerProcess::Seat> WorkerProcess::reserve() {
  return std::make_shared<const Seat>(shared_from_this());
}

StatusOr<std::shared_ptr<MachineHome>> WorkerProcess::open_machine(std::shared_ptr<const Seat> seat,
                                                                   uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(auto control, message_socket_pair());
  RAMET_ASSIGN_OR_RETURN(auto events, message_socket_pair(Blocking::kDontWait));
  const std::array<int, 2> theirs = {control[1].get(), events[1].get()};
  RAMET_RETURN_IF_ERROR(process_->channel().post(NewMachine{}, deadline_ns, theirs));
  return std::make_shared<Machine>(std::move(seat), std::move(control[0]), std::move(events[0]));
}

void WorkerProcess::relieve() {
  // One that is at something else for so long, or has gone, has nothing to give that would help.
  process_->channel().post(Relieve{}, monotonic_ns() + kRelieveWithin).IgnoreError();
}

WorkerProcess& WorkerProcess::of(const Seat& seat) { return seat.worker(); }

Status WorkerProcess::why_gone() {
  return process_->ends_within(kEndsWithin) ? process_->wait_end() : Status();
}

}  // namespace ramet::helper
