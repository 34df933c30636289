// Worker: the first thread of a worker process: takes machines in, each of which has a Server, and
// serves them all.
//
// Thread rule: one thread, without a filter: it makes the threads of the machines, which would
// inherit it. Of a guest's it carries bytes, as an embedder's thread does.
// Invariant: what is said about one machine reaches that one alone; one that the embedder has let
// go is torn down by the reaper, and only then are its sockets closed.
#ifndef RAMET_LIB_HELPER_PROGRAM_WORKER_H_
#define RAMET_LIB_HELPER_PROGRAM_WORKER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "lib/helper/program/fork_source.h"
#include "lib/helper/program/outbox.h"
#include "lib/helper/program/server.h"
#include "lib/helper/wire/messages.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/io/worker_pool.h"

namespace ramet::helper {

class Worker {
 public:
  struct Pools {
    WorkerPool* reaper = nullptr;
    WorkerPool* shell_maker = nullptr;  // without a filter, as this thread
  };
  // All of `parts` and `pools` outlive it.
  static StatusOr<std::unique_ptr<Worker>> create(const ServerParts& parts, const Pools& pools);

  // Sends the first reply.
  Status greet(const Hello& hello);
  // Serves until the embedder closes its end, or the sockets fail.
  void run();
  // A line for the embedder's log; from any thread.
  void log(LogLevel level, std::string_view line) { outbox_.log(level, line); }
  // The same of how many calls were refused.
  void refused(uint64_t count) { outbox_.refused(count); }

 private:
  Worker(const ServerParts& parts, const Pools& pools)
      : parts_(parts), pools_(pools), outbox_(kEventsFd) {}
  Status prepare();

  // False when the embedder has gone.
  bool serve_request();
  Status answer(const Request& request, std::vector<UniqueFd> files);
  Status learn(const Learn& learn, std::vector<UniqueFd> files);
  Status keep_shells(const KeepShells& keep);
  void relieve();
  Status take_machine(std::vector<UniqueFd> files);
  void serve_machine(uint64_t id);

  const ServerParts parts_;
  const Pools pools_;
  Outbox outbox_;
  UniqueFd epoll_;
  std::vector<std::byte> room_ = std::vector<std::byte>(kMaxMessage);
  std::vector<UniqueFd> plan_files_;
  std::unique_ptr<Shells> shells_;  // null until the embedder says how many
  std::map<uint64_t, LearnedTemplate> templates_;
  uint64_t next_id_;
  std::map<uint64_t, std::unique_ptr<Server>> servers_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_WORKER_H_
