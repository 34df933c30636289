// Server: the agent's heart: accepts connections, runs commands, reaps processes, and knows whether
// the guest is frozen.
//
// Thread rule: one thread; SIGCHLD is blocked in it.
// Invariant: once frozen, nothing but a successful Reseed makes the server run a command again.
// While suspended no command runs, one that is asked for then included; a Reseed ends those that
// had begun (in what was restored nobody waits for them: as when a connection breaks), and what
// they left behind goes on after it.
#ifndef RAMET_LIB_AGENT_GUEST_SERVER_H_
#define RAMET_LIB_AGENT_GUEST_SERVER_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/agent/guest/cgroups.h"
#include "lib/agent/guest/command.h"
#include "lib/agent/guest/connection.h"
#include "lib/agent/guest/loop.h"
#include "lib/agent/guest/machine.h"
#include "vmm/base/unique_fd.h"

namespace ramet::guest {

// Together below the default limit of 1024 descriptors: a command has up to five.
inline constexpr size_t kMaxConnections = 192;
inline constexpr size_t kMaxCommands = 128;

struct ServerOptions {
  std::string etc = "/etc";   // passwd and group
  std::string cgroup_parent;  // a cgroup2 folder to put commands under; empty = none
  wire::Hello hello;          // what we say of ourselves
};

class Server final : public RequestHandler {
 public:
  // `machine` outlives the server.
  Server(Machine& machine, ServerOptions options);
  ~Server() override;

  // Serves connections to `listener` until the event loop fails; says why.
  std::string run(UniqueFd listener);

  Command* start_command(Connection& connection, const wire::ExecRequest& request) override;
  void control(Connection& connection, const wire::Message& message) override;
  bool serves(const wire::Message& message) const override;

 private:
  struct Running {
    std::unique_ptr<Command> command;
    Connection* connection;  // null once it is gone
  };

  std::string open(UniqueFd listener);
  void accept_one();
  void reap();
  void tick();
  void collect();
  uint64_t next_deadline_ns() const;
  void freeze(Connection& connection);
  void suspend(Connection& connection);
  void thaw(Connection& connection);
  // Processes but ours that no freeze of the groups holds; nothing when that cannot be known.
  std::optional<std::vector<wire::LiveProcess>> strays();
  void close_others(const Connection& connection);
  static wire::FreezeReply reply_of(const std::vector<wire::LiveProcess>& live);
  void reseed(Connection& connection, const wire::Reseed& reseed);

  Machine& machine_;
  const ServerOptions options_;
  Cgroups cgroups_;
  Loop loop_;
  UniqueFd listener_;
  Watch listener_watch_;
  UniqueFd signals_;
  Watch signals_watch_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Running> running_;
  bool frozen_ = false;
  bool suspended_ = false;
};

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_SERVER_H_
