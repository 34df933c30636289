#include "lib/helper/program/worker.h"

#include <sys/epoll.h>

#include <array>
#include <iterator>
#include <span>
#include <utility>

#include <absl/strings/str_format.h>

#include "vmm/base/socket.h"
#include "vmm/base/syscall.h"

namespace ramet::helper {
namespace {

constexpr uint64_t kControlId = 0;
constexpr uint64_t kEventsId = 1;
constexpr uint64_t kFirstServerId = 2;
constexpr size_t kEventsAtOnce = 32;
// A machine's control socket and its events socket.
constexpr size_t kMachineFiles = 2;
// A template's memory and its plan.
constexpr size_t kLearnFiles = 2;

}  // namespace

StatusOr<std::unique_ptr<Worker>> Worker::create(const ServerParts& parts, const Pools& pools) {
  std::unique_ptr<Worker> worker(new Worker(parts, pools));
  RAMET_RETURN_IF_ERROR(worker->prepare());
  return worker;
}

Status Worker::prepare() {
  next_id_ = kFirstServerId;
  RAMET_ASSIGN_OR_RETURN(epoll_, sys::epoll());
  RAMET_RETURN_IF_ERROR(sys::epoll_add(epoll_.get(), kControlFd, EPOLLIN, kControlId));
  return sys::epoll_add(epoll_.get(), kEventsFd, EPOLLOUT | EPOLLET, kEventsId);
}

Status Worker::greet(const Hello& hello) {
  return send_reply(kControlFd, 0, hello).status("greet");
}

void Worker::run() {
  std::array<epoll_event, kEventsAtOnce> events;
  while (true) {
    const sys::Result got = sys::epoll_wait(epoll_.get(), events, -1);
    if (!got.ok()) {
      return;
    }
    for (const epoll_event& event : std::span(events).first(static_cast<size_t>(got.value))) {
      const uint64_t id = event.data.u64;
      if (id == kControlId) {
        if (!serve_request()) {
          return;
        }
      } else if (id == kEventsId) {
        outbox_.flush();
      } else {
        serve_machine(id);
      }
    }
  }
}

void Worker::serve_machine(uint64_t id) {
  const auto found = servers_.find(id);
  if (found == servers_.end() || found->second->step(0)) {
    return;
  }
  sys::epoll_remove(epoll_.get(), found->second->epoll());
  pools_.reaper->post(
      [server = std::shared_ptr<Server>(std::move(found->second))]() mutable { server.reset(); });
  servers_.erase(found);
}

bool Worker::serve_request() {
  auto got = receive_request(kControlFd, room_);
  if (!got.ok()) {
    return absl::IsUnavailable(got.status());
  }
  if (!got->request.ok()) {
    return false;  // the embedder of another build, or not the embedder
  }
  const Status answered = answer(*got->request, std::move(got->files));
  return !wants_reply(*got->request) || send_reply(kControlFd, got->number, Done{answered}).ok();
}

Status Worker::answer(const Request& request, std::vector<UniqueFd> files) {
  if (std::holds_alternative<Files>(request)) {
    std::ranges::move(files, std::back_inserter(plan_files_));
    return Status();
  }
  if (std::holds_alternative<NewMachine>(request)) {
    return take_machine(std::move(files));
  }
  if (const auto* to_learn = std::get_if<Learn>(&request)) {
    return learn(*to_learn, std::move(files));
  }
  if (const auto* to_forget = std::get_if<Forget>(&request)) {
    if (to_forget->template_id == 0) {
      plan_files_.clear();
    } else {
      templates_.erase(to_forget->template_id);
    }
    return Status();
  }
  if (const auto* keep = std::get_if<KeepShells>(&request)) {
    return keep_shells(*keep);
  }
  if (std::holds_alternative<Relieve>(request)) {
    relieve();
    return Status();
  }
  return absl::InvalidArgumentError("a worker process has no machine of its own");
}

Status Worker::learn(const Learn& learn, std::vector<UniqueFd> files) {
  auto of_plan = std::exchange(plan_files_, {});
  if (files.size() != kLearnFiles) {
    return absl::InvalidArgumentError(absl::StrFormat("a template of %d files", files.size()));
  }
  RAMET_ASSIGN_OR_RETURN(auto source,
                         read_source(std::move(files[0]), files[1], std::move(of_plan)));
  LearnedTemplate learned = {.source = std::move(source)};
  if (shells_ != nullptr) {
    learned.shells = shells_->add(
        [host = Machine::Host{.kvm = parts_.kvm, .jail = parts_.jail}, from = learned.source] {
          return make_machine(host, from->machine_source(), Prefetch::kYes);
        });
  }
  templates_[learn.template_id] = std::move(learned);
  return Status();
}

Status Worker::keep_shells(const KeepShells& keep) {
  if (shells_ != nullptr) {
    return absl::FailedPreconditionError("how many machines are made ahead was said before");
  }
  // The embedder knows when the host is short, and does not have them refilled then.
  shells_ = std::make_unique<Shells>(Shells::Parts{.maker = pools_.shell_maker,
                                                   .reaper = pools_.reaper,
                                                   .host_is_short = [] { return false; },
                                                   .per_template = keep.per_template,
                                                   .max = keep.max});
  return Status();
}

void Worker::relieve() {
  if (shells_ != nullptr) {
    shells_->drop();
  }
  // Joins them, which other machines need not wait for.
  pools_.shell_maker->post([jail = parts_.jail] { jail->give_up_idle(); });
}

// Where it fails the embedder learns of it by the end of its sockets.
Status Worker::take_machine(std::vector<UniqueFd> files) {
  if (files.size() != kMachineFiles) {
    return absl::InvalidArgumentError(absl::StrFormat("a machine of %d sockets", files.size()));
  }
  ServerParts parts = parts_;
  parts.learned = [this](uint64_t id) -> const LearnedTemplate* {
    const auto found = templates_.find(id);
    return found == templates_.end() ? nullptr : &found->second;
  };
  RAMET_ASSIGN_OR_RETURN(auto server,
                         Server::create(parts, std::move(files[0]), std::move(files[1]), room_));
  const uint64_t id = next_id_++;
  RAMET_RETURN_IF_ERROR(sys::epoll_add(epoll_.get(), server->epoll(), EPOLLIN, id));
  servers_[id] = std::move(server);
  return Status();
}

}  // namespace ramet::helper
