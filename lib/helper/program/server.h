// Server: the first thread of a helper process: answers the embedder's requests and carries the
// bytes of its conversations.
//
// Thread rule: one thread.
// Invariant: one machine in the process's life. What the guest does reaches the embedder as bytes
// of conversations, as events, and in no other way.
#ifndef RAMET_LIB_HELPER_PROGRAM_SERVER_H_
#define RAMET_LIB_HELPER_PROGRAM_SERVER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "lib/helper/program/outbox.h"
#include "lib/helper/program/relay.h"
#include "lib/helper/program/waker.h"
#include "lib/helper/wire/messages.h"
#include "lib/instance/instance.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/socket.h"

namespace ramet::helper {

// What stands ready when the embedder's first request comes; all of it outlives the server.
struct ServerParts {
  std::shared_ptr<const Kvm> kvm;
  jail::Jail* jail = nullptr;
  WorkerPool* workers = nullptr;
  WorkerPool* calls = nullptr;
  LimitWatch* watch = nullptr;
  // HelperHooks::intercept
  std::function<std::optional<Status>(const Request&, const ServerParts&)> intercept = {};
};

class Server {
 public:
  static StatusOr<std::unique_ptr<Server>> create(const ServerParts& parts);

  // Sends the first reply. After it the thread may be put behind its filter.
  Status greet(const Hello& hello);
  // Serves until the embedder closes its end, or the sockets fail.
  void run();

 private:
  explicit Server(const ServerParts& parts, std::unique_ptr<Waker> waker)
      : parts_(parts),
        waker_(std::move(waker)),
        outbox_(kEventsFd, waker_.get()),
        log_([this](LogLevel level, std::string_view line) { outbox_.log(level, line); }) {}
  Status prepare();

  // False when the embedder has gone.
  bool serve_request();
  Reply answer(const Request& request, std::vector<UniqueFd> files);
  Status fork(const Fork& fork, std::vector<UniqueFd> files);
  Status connect(const Connect& connect, std::vector<UniqueFd> files);
  void run_relay(uint64_t id);
  void run_dirty_relays();

  const ServerParts parts_;
  const std::unique_ptr<Waker> waker_;
  Outbox outbox_;
  LogSink log_;
  UniqueFd epoll_;
  std::vector<std::byte> room_ = std::vector<std::byte>(kMaxMessage);
  std::vector<UniqueFd> plan_files_;
  UniqueFd overlay_;
  std::unique_ptr<Instance> instance_;
  uint64_t next_id_;
  std::map<uint64_t, std::unique_ptr<Relay>> relays_;  // last: their streams are the instance's
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_SERVER_H_
