// Server: answers the embedder's requests about one machine and carries the bytes of its
// conversations: on the first thread of a helper process, or, one of many, of a worker's.
//
// Thread rule: one thread; destruction also on another, when nothing else is called any more.
// Invariant: one machine in the server's life. What the guest does reaches the embedder as bytes of
// conversations, as events, and in no other way. Its sockets are closed when its machine has gone.
#ifndef RAMET_LIB_HELPER_PROGRAM_SERVER_H_
#define RAMET_LIB_HELPER_PROGRAM_SERVER_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "lib/helper/program/fork_source.h"
#include "lib/helper/program/outbox.h"
#include "lib/helper/program/relay.h"
#include "lib/helper/program/waker.h"
#include "lib/helper/wire/messages.h"
#include "lib/instance/instance.h"
#include "lib/instance/shell_pool.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/socket.h"

namespace ramet::helper {

// A template that a worker process knows.
struct LearnedTemplate {
  std::shared_ptr<const ForkSource> source;
  std::shared_ptr<ShellPool> shells = {};  // null: no machines of it are made ahead
};

// What stands ready when the embedder's first request comes; all of it outlives the server.
struct ServerParts {
  std::shared_ptr<const Kvm> kvm;
  jail::Jail* jail = nullptr;
  WorkerPool* workers = nullptr;
  LimitWatch* watch = nullptr;
  // Takes snapshots, so that other machines need not wait for one; null: this thread does.
  WorkerPool* snapshots = nullptr;
  // Of a worker process: the template with this id; null where there is none. Its machines are
  // bounded by their limits alone, for the process is not theirs.
  std::function<const LearnedTemplate*(uint64_t id)> learned = {};
  // HelperHooks::intercept
  std::function<std::optional<Status>(const Request&, const ServerParts&)> intercept = {};
};

class Server {
 public:
  // `room` takes one message, and is the server's only while it serves.
  static StatusOr<std::unique_ptr<Server>> create(const ServerParts& parts, UniqueFd control,
                                                  UniqueFd events, std::span<std::byte> room);
  // Waits for a snapshot that is being taken.
  ~Server();

  // Sends the first reply. After it the thread may be put behind its filter.
  Status greet(const Hello& hello);
  // Serves what there is to do, and waits for it where `timeout_ms` is not 0 (-1: for ever). False
  // when the embedder has closed its end, or the sockets have failed.
  bool step(int timeout_ms);
  // Ready to be read when there is something to do.
  int epoll() const { return epoll_.get(); }

 private:
  Server(const ServerParts& parts, UniqueFd control, UniqueFd events, std::span<std::byte> room,
         std::unique_ptr<Waker> waker)
      : parts_(parts),
        control_(std::move(control)),
        events_(std::move(events)),
        room_(room),
        waker_(std::move(waker)),
        outbox_(events_.get()),
        log_([this](LogLevel level, std::string_view line) { outbox_.log(level, line); }) {}
  Status prepare();

  // False when the embedder has gone.
  bool serve_request();
  // False while another snapshot is being taken.
  bool begin_snapshot();
  void serve_later(Sequence number, const TakeSnapshot& how, std::vector<UniqueFd> files);
  Reply answer(const Request& request, std::vector<UniqueFd> files);
  StatusOr<Forked> fork(const Fork& fork, std::vector<UniqueFd> files);
  // What a Fork with a first port does once there is a machine.
  Status begin(uint32_t first_port, UniqueFd conversation);
  // Takes what belongs to the plan out of `files`.
  StatusOr<LearnedTemplate> template_of(const Fork& fork, std::vector<UniqueFd>* files);
  // One that stands ready, or a new one.
  StatusOr<std::unique_ptr<Machine>> machine_for(const Fork& fork, const LearnedTemplate& from);
  // What a process with one machine may use.
  Status bound_process(const Fork& fork, const Plan& plan);
  Status connect(uint32_t guest_port, UniqueFd conversation);
  Reply take_snapshot(const TakeSnapshot& how, std::vector<UniqueFd> files);
  StatusOr<SnapshotTaken> try_snapshot(const TakeSnapshot& how, std::vector<UniqueFd> files);
  // On a thread of the disk's.
  StatusOr<UniqueFd> next_overlay();
  using Relays = std::map<uint64_t, std::unique_ptr<Relay>>;
  void run_relay(uint64_t id);
  void end_relay(Relays::iterator relay);
  void refill_shells();
  void run_dirty_relays();

  const ServerParts parts_;
  const UniqueFd control_;
  const UniqueFd events_;
  const std::span<std::byte> room_;
  const std::unique_ptr<Waker> waker_;
  Outbox outbox_;
  LogSink log_;
  UniqueFd epoll_;
  std::vector<UniqueFd> plan_files_;
  std::mutex overlay_mutex_;
  std::deque<UniqueFd> overlays_;  // not yet used
  size_t template_layers_ = 0;     // of the scratch disk
  std::mutex snapshot_mutex_;
  std::condition_variable snapshot_done_;
  bool in_snapshot_ = false;  // on the thread of parts_.snapshots
  std::unique_ptr<Instance> instance_;
  uint64_t next_id_;
  // Are refilled when the first conversation is over; their template may be forgotten before.
  std::weak_ptr<ShellPool> to_refill_;
  Relays relays_;  // last: their streams are the instance's
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_SERVER_H_
