#include "lib/helper/program/server.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <utility>

#include <absl/strings/str_format.h>

#include "lib/helper/wire/bounds.h"
#include "lib/helper/wire/snapshot.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/syscall.h"
#include "vmm/jail/enclosure.h"
#include "vmm/memory/mapping.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kControlId = 0;
constexpr uint64_t kWakerId = 1;
constexpr uint64_t kEventsId = 2;
constexpr uint64_t kFirstRelayId = 3;
constexpr size_t kEventsAtOnce = 32;
// A TakeSnapshot's, without that of a scratch disk.
constexpr size_t kSnapshotFiles = 2;

template <typename T>
bool is(const Request& request) {
  return std::holds_alternative<T>(request);
}

Status no_machine() { return absl::FailedPreconditionError("there is no machine yet"); }

}  // namespace

StatusOr<std::unique_ptr<Server>> Server::create(const ServerParts& parts, UniqueFd control,
                                                 UniqueFd events, std::span<std::byte> room) {
  RAMET_ASSIGN_OR_RETURN(auto waker, Waker::create());
  std::unique_ptr<Server> server(
      new Server(parts, std::move(control), std::move(events), room, std::move(waker)));
  RAMET_RETURN_IF_ERROR(server->prepare());
  return server;
}

Status Server::prepare() {
  next_id_ = kFirstRelayId;
  RAMET_ASSIGN_OR_RETURN(epoll_, sys::epoll());
  RAMET_RETURN_IF_ERROR(sys::epoll_add(epoll_.get(), control_.get(), EPOLLIN, kControlId));
  RAMET_RETURN_IF_ERROR(sys::epoll_add(epoll_.get(), waker_->fd(), EPOLLIN, kWakerId));
  return sys::epoll_add(epoll_.get(), events_.get(), EPOLLOUT | EPOLLET, kEventsId);
}

Status Server::greet(const Hello& hello) {
  return send_reply(control_.get(), 0, hello).status("greet");
}

bool Server::step(int timeout_ms) {
  std::array<epoll_event, kEventsAtOnce> events;
  const sys::Result got = sys::epoll_wait(epoll_.get(), events, timeout_ms);
  if (!got.ok()) {
    return false;
  }
  for (const epoll_event& event : std::span(events).first(static_cast<size_t>(got.value))) {
    const uint64_t id = event.data.u64;
    if (id == kControlId) {
      if (!serve_request()) {
        return false;
      }
    } else if (id == kWakerId) {
      waker_->take();
      run_dirty_relays();
    } else if (id == kEventsId) {
      outbox_.flush();
    } else {
      run_relay(id);
    }
  }
  return true;
}

bool Server::serve_request() {
  auto got = receive_request(control_.get(), room_);
  if (!got.ok()) {
    return absl::IsUnavailable(got.status());
  }
  const Sequence number = got->number;
  const StatusOr<Request>& request = got->request;
  const auto* snapshot = request.ok() ? std::get_if<TakeSnapshot>(&*request) : nullptr;
  if (snapshot != nullptr && parts_.snapshots != nullptr && instance_ != nullptr &&
      begin_snapshot()) {
    serve_later(number, *snapshot, std::move(got->files));
    return true;
  }
  const Reply reply =
      request.ok() ? answer(*request, std::move(got->files)) : Reply(Done{request.status()});
  return send_reply(control_.get(), number, reply).ok();
}

Server::~Server() {
  // A fork that was killed as soon as it had answered.
  refill_shells();
  std::unique_lock lock(snapshot_mutex_);
  snapshot_done_.wait(lock, [&] { return !in_snapshot_; });
}

// Until then the embedder asks for nothing else of this machine.
bool Server::begin_snapshot() {
  const std::lock_guard lock(snapshot_mutex_);
  return !std::exchange(in_snapshot_, true);
}

void Server::serve_later(Sequence number, const TakeSnapshot& how, std::vector<UniqueFd> files) {
  auto owned = std::make_shared<std::vector<UniqueFd>>(std::move(files));
  parts_.snapshots->post([this, number, how, owned] {
    const Reply reply = take_snapshot(how, std::move(*owned));
    // Over before the embedder knows, and both before whoever destroys this goes on.
    const std::lock_guard lock(snapshot_mutex_);
    in_snapshot_ = false;
    send_reply(control_.get(), number, reply);  // an embedder that has gone is found out elsewhere
    snapshot_done_.notify_all();
  });
}

Reply Server::answer(const Request& request, std::vector<UniqueFd> files) {
  if (parts_.intercept) {
    if (const auto status = parts_.intercept(request, parts_)) {
      return Done{*status};
    }
  }
  if (is<Files>(request)) {
    std::ranges::move(files, std::back_inserter(plan_files_));
    return Done{};
  }
  if (const auto* fork_request = std::get_if<Fork>(&request)) {
    const auto forked = fork(*fork_request, std::move(files));
    return forked.ok() ? Reply(*forked) : Reply(Done{forked.status()});
  }
  if (instance_ == nullptr) {
    return Done{no_machine()};
  }
  if (is<NewMachine>(request) || is<Learn>(request) || is<Forget>(request) ||
      is<KeepShells>(request) || is<Relieve>(request)) {
    return Done{absl::InvalidArgumentError("a request to a worker process, and to no machine")};
  }
  if (const auto* connect_request = std::get_if<Connect>(&request)) {
    return Done{files.size() == 1 ? connect(connect_request->guest_port, std::move(files[0]))
                                  : absl::InvalidArgumentError(
                                        absl::StrFormat("a connection of %d files", files.size()))};
  }
  {
    // Only an embedder that gave up waiting for a snapshot asks for these.
    const std::lock_guard lock(snapshot_mutex_);
    if (in_snapshot_ && (is<Resume>(request) || is<Pause>(request) || is<TakeSnapshot>(request))) {
      return Done{absl::FailedPreconditionError("a snapshot is being taken")};
    }
  }
  if (const auto* how = std::get_if<TakeSnapshot>(&request)) {
    return take_snapshot(*how, std::move(files));
  }
  if (is<Resume>(request)) {
    return Done{instance_->resume()};
  }
  if (is<Pause>(request)) {
    return Done{instance_->machine().pause()};
  }
  if (is<AskMemory>(request)) {
    const auto use = instance_->memory_use();
    return use.ok() ? Reply(*use) : Reply(Done{use.status()});
  }
  return instance_->metrics();
}

StatusOr<LearnedTemplate> Server::template_of(const Fork& fork, std::vector<UniqueFd>* files) {
  if (fork.template_id != 0) {
    const auto* learned = parts_.learned ? parts_.learned(fork.template_id) : nullptr;
    if (learned == nullptr) {
      return absl::FailedPreconditionError("a fork of a template that this process does not know");
    }
    return *learned;
  }
  if (files->size() < 2) {
    return absl::InvalidArgumentError(absl::StrFormat("a fork with %d files", files->size()));
  }
  RAMET_ASSIGN_OR_RETURN(auto source, read_source(std::move((*files)[0]), (*files)[1],
                                                  std::exchange(plan_files_, {})));
  files->erase(files->begin(), files->begin() + 2);
  return LearnedTemplate{.source = std::move(source)};
}

StatusOr<std::unique_ptr<Machine>> Server::machine_for(const Fork& fork,
                                                       const LearnedTemplate& from) {
  if (fork.take_shell && from.shells != nullptr) {
    if (auto shell = from.shells->take()) {
      return shell;
    }
  }
  return make_machine({.kvm = parts_.kvm, .jail = parts_.jail}, from.source->machine_source(),
                      fork.prefetch ? Prefetch::kYes : Prefetch::kNo);
}

Status Server::bound_process(const Fork& fork, const Plan& plan) {
  // Nothing but the overlay is written to.
  const uint64_t overlay_bytes =
      plan.disks.scratch == nullptr ? 0 : plan.disks.scratch->size_bytes();
  RAMET_RETURN_IF_ERROR(jail::limit_file_bytes(overlay_bytes));
  const HelperBounds bounds =
      bounds_of(fork.limits, total_bytes(plan.state.machine.regions),
                static_cast<uint32_t>(plan.state.machine.vcpus.size()), overlay_bytes);
  RAMET_RETURN_IF_ERROR(jail::limit_private_bytes(bounds.data_bytes));
  return jail::limit_cpu_time(bounds.cpu_seconds);
}

StatusOr<Forked> Server::fork(const Fork& fork, std::vector<UniqueFd> files) {
  if (instance_ != nullptr) {
    return absl::FailedPreconditionError("there is a machine already");
  }
  RAMET_ASSIGN_OR_RETURN(const LearnedTemplate from, template_of(fork, &files));
  const Plan& plan = from.source->plan;
  const size_t overlays = plan.disks.scratch == nullptr ? 0 : 1;
  if (files.size() != overlays + (fork.first_port == 0 ? 0 : 1)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a fork with %d files for its scratch disk and first conversation", files.size()));
  }
  if (overlays != 0) {
    overlays_.push_back(std::move(files[0]));
    template_layers_ = plan.disks.scratch->depth();
  }
  if (!parts_.learned) {
    RAMET_RETURN_IF_ERROR(bound_process(fork, plan));
  }
  const InstanceHost host = {.machine = {.kvm = parts_.kvm, .jail = parts_.jail},
                             .workers = parts_.workers,
                             .log = &log_,
                             .watch = parts_.watch,
                             .make_overlay_file = [this](uint64_t) { return next_overlay(); },
                             .host_port_offset = fork.host_port_offset};
  InstanceOptions options = {.disks = plan.disks, .limits = fork.limits};
  if (fork.wants_console) {
    options.console = [this](std::string_view text) { outbox_.console(text); };
  }
  RAMET_ASSIGN_OR_RETURN(auto machine, machine_for(fork, from));
  RAMET_ASSIGN_OR_RETURN(
      auto instance, Instance::restore(host, std::move(machine), plan.state, std::move(options)));
  RAMET_RETURN_IF_ERROR(instance->change_generation(fork.generation));
  instance_ = std::move(instance);
  instance_->on_end(
      [this](const Status& why) { outbox_.ended({.why = why, .metrics = instance_->metrics()}); });
  const Forked forked = {.ready_ns = monotonic_ns()};
  if (fork.first_port != 0) {
    // Not by a machine without one, whose end may come when the host has become short.
    to_refill_ = fork.refill_shells ? from.shells : nullptr;
    RAMET_RETURN_IF_ERROR(begin(fork.first_port, std::move(files.back())));
  }
  return forked;
}

Status Server::begin(uint32_t first_port, UniqueFd conversation) {
  RAMET_RETURN_IF_ERROR(connect(first_port, std::move(conversation)));
  return instance_->resume();
}

Status Server::connect(uint32_t guest_port, UniqueFd conversation) {
  VsockHost vsock = instance_->vsock();
  auto begun = vsock.start_connect(guest_port);
  RAMET_RETURN_IF_ERROR(as_connection_limit(begun.status(), vsock.max_connections()));
  const uint64_t id = next_id_++;
  const int socket = conversation.get();
  auto relay = std::make_unique<Relay>(*std::move(begun), std::move(conversation), waker_.get());
  RAMET_RETURN_IF_ERROR(sys::epoll_add(epoll_.get(), socket, EPOLLIN | EPOLLOUT | EPOLLET, id));
  relays_[id] = std::move(relay);
  return Status();
}

StatusOr<UniqueFd> Server::next_overlay() {
  const std::lock_guard lock(overlay_mutex_);
  if (overlays_.empty()) {
    return absl::ResourceExhaustedError("no file for what the guest writes to its scratch disk");
  }
  UniqueFd file = std::move(overlays_.front());
  overlays_.pop_front();
  return file;
}

Reply Server::take_snapshot(const TakeSnapshot& how, std::vector<UniqueFd> files) {
  const auto taken = try_snapshot(how, std::move(files));
  return taken.ok() ? Reply(*taken) : Reply(Done{taken.status()});
}

StatusOr<SnapshotTaken> Server::try_snapshot(const TakeSnapshot& how, std::vector<UniqueFd> files) {
  if (files.size() != kSnapshotFiles && files.size() != kSnapshotFiles + 1) {
    return absl::InvalidArgumentError(absl::StrFormat("a snapshot into %d files", files.size()));
  }
  if (files.size() > kSnapshotFiles) {
    // Before the machine goes on.
    const std::lock_guard lock(overlay_mutex_);
    overlays_.push_back(std::move(files[kSnapshotFiles]));
  }
  RAMET_ASSIGN_OR_RETURN(const uint64_t room,
                         sys::file_size(files[0].get(), "the room for a snapshot"));
  RAMET_ASSIGN_OR_RETURN(const Mapping into,
                         Mapping::map_file(files[0].get(), 0, room, MapMode::kShared));
  RAMET_ASSIGN_OR_RETURN(auto snapshot, instance_->snapshot([&](uint64_t /*expected*/) {
    return PageCapture::create_in(std::move(files[1]), how.expected_bytes);
  }));
  SnapshotResult result = {.state = std::move(snapshot.state), .pages = snapshot.pages.pages()};
  const size_t layers = snapshot.scratch == nullptr ? 0 : snapshot.scratch->depth();
  for (size_t layer = template_layers_ + how.known_layers; layer < layers; ++layer) {
    result.layers.push_back(snapshot.scratch->layer_runs(layer));
  }
  const auto bytes = encode(result);
  if (bytes.size() > into.size()) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("a snapshot's state is %d bytes; at most %d", bytes.size(), into.size()));
  }
  // Room that the host has not got is an error here, and would be the process's end there.
  if (const Status there = into.populate_private(0, bytes.size());
      !absl::IsInvalidArgument(there)) {
    RAMET_RETURN_IF_ERROR(there);
  }
  std::ranges::copy(bytes, into.data());
  return SnapshotTaken{.result_bytes = bytes.size(), .pause_ns = snapshot.pause_ns};
}

void Server::run_relay(uint64_t id) {
  const auto found = relays_.find(id);
  if (found != relays_.end() && !found->second->run()) {
    end_relay(found);
  }
}

void Server::end_relay(Relays::iterator relay) {
  // Not before: making a machine and the guest's first faults want the same locks.
  if (relay->first == kFirstRelayId) {
    refill_shells();
  }
  relays_.erase(relay);
}

void Server::refill_shells() {
  if (const auto shells = std::exchange(to_refill_, {}).lock()) {
    shells->refill();
  }
}

void Server::run_dirty_relays() {
  for (auto next = relays_.begin(); next != relays_.end();) {
    const auto relay = next++;
    if (relay->second->take_dirty() && !relay->second->run()) {
      end_relay(relay);
    }
  }
}

}  // namespace ramet::helper
