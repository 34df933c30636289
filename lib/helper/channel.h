// RequestChannel: the embedder's end of a control socket: requests and their replies, in turn.
//
// Thread rule: every method from any thread; requests come one at a time.
// Invariant: a reply is taken for its own request only. After one that is no reply no other request
// is made.
#ifndef RAMET_LIB_HELPER_CHANNEL_H_
#define RAMET_LIB_HELPER_CHANNEL_H_

#include <cstdint>
#include <span>
#include <vector>

#include "lib/helper/wire/messages.h"
#include "vmm/base/status.h"
#include "vmm/base/timed_mutex.h"
#include "vmm/base/unique_fd.h"

namespace ramet::helper {

class RequestChannel {
 public:
  explicit RequestChannel(UniqueFd socket);
  RequestChannel(const RequestChannel&) = delete;
  RequestChannel& operator=(const RequestChannel&) = delete;

  // The peer's first message, which nobody asked for.
  StatusOr<Hello> await_hello(uint64_t deadline_ns);
  // What the peer answers: the status of its Done. Unavailable where it has gone, DeadlineExceeded
  // at `deadline_ns` (CLOCK_MONOTONIC; 0: none), DataLoss where it answers nonsense.
  Status request(const Request& request, uint64_t deadline_ns, std::span<const int> files = {});
  StatusOr<InstanceMetrics> ask_metrics(uint64_t deadline_ns);
  StatusOr<MemoryUse> ask_memory(uint64_t deadline_ns);
  StatusOr<Forked> fork(const Fork& what, uint64_t deadline_ns, std::span<const int> files);
  StatusOr<SnapshotTaken> take_snapshot(const TakeSnapshot& how, uint64_t deadline_ns,
                                        std::span<const int> files);
  // Says it, and waits for no reply.
  Status post(const Request& request, uint64_t deadline_ns, std::span<const int> files = {});

  // Whether a request may be made: the peer has not closed its end, nor answered nonsense.
  bool alive() const;
  // Waits until the peer has closed its end, for so many milliseconds at most; whether it did. Not
  // while another thread is in close().
  bool wait_closed(int milliseconds) const;
  // Tells the peer that nothing more comes. Never blocks; not while another thread is in close().
  void end_sending() const;
  // Closes it; every request fails from then on.
  void close();

 private:
  // The reply with this number; older ones were given up waiting for.
  StatusOr<Reply> receive(Sequence number, uint64_t deadline_ns);
  // With mutex_ held.
  Status send(Sequence number, const Request& request, uint64_t deadline_ns,
              std::span<const int> files);
  // The answer to a question: of its own type, or why there is none.
  template <typename Answer>
  StatusOr<Answer> ask(const Request& request, uint64_t deadline_ns,
                       std::span<const int> files = {});
  StatusOr<Reply> converse(const Request& request, uint64_t deadline_ns,
                           std::span<const int> files);

  // Around one request and its reply; what must not wait long for another gives up in time.
  mutable TimedMutex mutex_;
  UniqueFd socket_;
  Status broken_;
  Sequence last_ = 0;
  std::vector<std::byte> room_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_CHANNEL_H_
