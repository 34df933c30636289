#include "lib/agent/guest/server.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "lib/agent/guest/log.h"
#include "lib/agent/guest/vsock.h"

namespace ramet::guest {
Server::Server(Machine& machine, ServerOptions options)
    : machine_(machine), options_(std::move(options)), cgroups_(options_.cgroup_parent) {}

// Connections abandon their commands, so they go first.
Server::~Server() {
  connections_.clear();
  running_.clear();
}

std::string Server::open(UniqueFd listener) {
  listener_ = std::move(listener);
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  ::pthread_sigmask(SIG_BLOCK, &child, nullptr);
  signals_ = UniqueFd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!loop_.open() || !signals_.valid() ||
      !listener_watch_.start(loop_, listener_.get(), EPOLLIN, [this](uint32_t) { accept_one(); }) ||
      !signals_watch_.start(loop_, signals_.get(), EPOLLIN, [this](uint32_t) { reap(); })) {
    return errno_text("make the event loop", errno);
  }
  return {};
}

std::string Server::run(UniqueFd listener) {
  if (std::string trouble = open(std::move(listener)); !trouble.empty()) {
    return trouble;
  }
  cgroups_.prepare();
  while (loop_.run_once(next_deadline_ns())) {
    tick();
    collect();
  }
  return errno_text("wait for events", errno);
}

void Server::accept_one() {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  UniqueFd socket(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket.valid() || !is_host(peer)) {
    return;  // gone again before we came, or none of ours
  }
  const bool busy = connections_.size() >= kMaxConnections;
  connections_.push_back(std::make_unique<Connection>(loop_, *this, std::move(socket)));
  connections_.back()->start(options_.hello);
  if (busy) {
    connections_.back()->refuse(wire::ErrorCode::kBusy, "too many connections");
  } else {
    connections_.back()->read_input();  // most often it is there by now
  }
}

void Server::reap() {
  signalfd_siginfo info;
  while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
  }
  int status = 0;
  // As init we also reap orphans, which are in nobody's list.
  for (pid_t pid = ::waitpid(-1, &status, WNOHANG); pid > 0;
       pid = ::waitpid(-1, &status, WNOHANG)) {
    const auto entry = std::ranges::find_if(
        running_, [pid](const Running& each) { return each.command->pid() == pid; });
    if (entry != running_.end()) {
      entry->command->on_exited(status);
    }
  }
}

void Server::tick() {
  const uint64_t now = now_ns();
  for (Running& each : running_) {
    each.command->on_clock(now);
  }
}

uint64_t Server::next_deadline_ns() const {
  uint64_t earliest = 0;
  for (const Running& each : running_) {
    const uint64_t deadline = each.command->next_deadline_ns();
    if (deadline != 0 && (earliest == 0 || deadline < earliest)) {
      earliest = deadline;
    }
  }
  return earliest;
}

// Deletes what ended, outside every handler.
void Server::collect() {
  for (Running& each : running_) {
    if (each.command->finished() && each.connection != nullptr) {
      if (!each.connection->dead()) {
        each.connection->on_command_finished();
      }
      each.connection = nullptr;
    }
  }
  for (const auto& connection : connections_) {
    if (connection->dead()) {
      for (Running& each : running_) {
        each.connection = each.connection == connection.get() ? nullptr : each.connection;
      }
    }
  }
  std::erase_if(connections_, [](const auto& connection) { return connection->dead(); });
  if (std::erase_if(running_, [](const Running& each) { return each.command->finished(); }) > 0) {
    cgroups_.prepare();
  }
}

bool Server::serves(const wire::Message& message) const {
  if (suspended_ && !cgroups_.usable() && std::holds_alternative<wire::ExecRequest>(message)) {
    return false;  // nothing would hold it
  }
  return !frozen_ || std::holds_alternative<wire::Reseed>(message);
}

Command* Server::start_command(Connection& connection, const wire::ExecRequest& request) {
  if (running_.size() >= kMaxCommands) {
    connection.refuse(wire::ErrorCode::kBusy, "too many commands");
    return nullptr;
  }
  running_.push_back({std::make_unique<Command>(loop_, cgroups_, connection), &connection});
  Command& command = *running_.back().command;
  command.start(request, options_.etc);
  return &command;
}

void Server::control(Connection& connection, const wire::Message& message) {
  if (const auto* ping = std::get_if<wire::Ping>(&message)) {
    connection.send(wire::Pong{ping->token});
  } else if (const auto* reseed_request = std::get_if<wire::Reseed>(&message)) {
    reseed(connection, *reseed_request);
  } else if (std::holds_alternative<wire::Freeze>(message)) {
    freeze(connection);
  } else if (std::holds_alternative<wire::Suspend>(message)) {
    suspend(connection);
  } else if (std::holds_alternative<wire::Thaw>(message)) {
    thaw(connection);
  } else if (std::holds_alternative<wire::Poweroff>(message)) {
    machine_.power_off();
  } else {
    connection.refuse(wire::ErrorCode::kProtocol, "a message that is no request");
  }
}

void Server::reseed(Connection& connection, const wire::Reseed& reseed) {
  if (suspended_) {
    close_others(connection);
    frozen_ = true;
  }
  const std::string trouble = machine_.reseed(reseed);
  if (!trouble.empty()) {
    frozen_ = true;  // whatever it was before: this generator is not to be trusted
    log(trouble);
    connection.refuse(wire::ErrorCode::kReseedFailed, trouble);
    return;
  }
  frozen_ = false;
  if (std::exchange(suspended_, false)) {
    cgroups_.thaw();
  }
  connection.send(wire::ReseedAck{reseed.generation});
}

wire::FreezeReply Server::reply_of(const std::vector<wire::LiveProcess>& live) {
  wire::FreezeReply reply;
  reply.live_count = static_cast<uint32_t>(live.size());
  const size_t listed = std::min(live.size(), wire::kMaxListedProcesses);
  reply.processes.assign(live.begin(), live.begin() + static_cast<std::ptrdiff_t>(listed));
  return reply;
}

void Server::close_others(const Connection& connection) {
  for (const auto& each : connections_) {
    if (each.get() != &connection) {
      each->close();
    }
  }
}

// A command's process belongs to no group for its first moment.
std::optional<std::vector<wire::LiveProcess>> Server::strays() {
  constexpr int kWithinMs = 200;
  for (int waited_ms = 0;; ++waited_ms) {
    auto live = machine_.live_processes();
    if (live) {
      std::erase_if(*live, [&](const wire::LiveProcess& each) { return cgroups_.holds(each.pid); });
    }
    if (!live || live->empty() || waited_ms == kWithinMs) {
      return live;
    }
    ::usleep(1000);
    reap();
  }
}

void Server::suspend(Connection& connection) {
  if (suspended_) {
    connection.refuse(wire::ErrorCode::kBusy, "the processes are held already");
    return;
  }
  if (cgroups_.usable() && !cgroups_.freeze()) {
    connection.refuse(wire::ErrorCode::kInternal, "the commands' control groups do not freeze");
    return;
  }
  const auto live = strays();
  suspended_ = live && live->empty();
  if (!suspended_ && cgroups_.usable()) {
    cgroups_.thaw();
  }
  if (!live) {
    connection.refuse(wire::ErrorCode::kInternal, "the processes cannot be listed");
    return;
  }
  connection.send(reply_of(*live));
}

void Server::thaw(Connection& connection) {
  if (!std::exchange(suspended_, false)) {
    connection.refuse(wire::ErrorCode::kProtocol, "nothing is held");
    return;
  }
  if (cgroups_.usable()) {
    cgroups_.thaw();
  }
  connection.send(wire::Thawed{});
}

void Server::freeze(Connection& connection) {
  if (suspended_) {
    connection.refuse(wire::ErrorCode::kBusy, "the processes are held");
    return;
  }
  reap();
  const auto live = machine_.live_processes();
  if (!live) {
    connection.refuse(wire::ErrorCode::kInternal, "the processes cannot be listed");
    return;
  }
  if (!live->empty()) {
    connection.send(reply_of(*live));
    return;
  }
  frozen_ = true;
  machine_.settle();
  close_others(connection);
  connection.send(reply_of(*live));
  connection.close_after_flush();
}

}  // namespace ramet::guest
