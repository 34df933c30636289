// SocketStream: a conversation with a guest whose machine runs in a helper process; StreamGroup:
// all of one machine's.
//
// Thread rule: as ByteStream; StreamGroup: any thread.
// Invariant: what comes from the helper is as hostile as what comes from its guest: a message of
// any kind is taken or is an error. After StreamGroup::end() every stream fails with its reason
// once the bytes that had arrived are read.
#ifndef RAMET_LIB_HELPER_SOCKET_STREAM_H_
#define RAMET_LIB_HELPER_SOCKET_STREAM_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "lib/agent/stream.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet::helper {

class StreamGroup {
 public:
  // The first reason stays.
  void end(const Status& reason);
  // OK, or the reason.
  Status ended() const;
  // The same, once it is there; OK where it is not within `limit`.
  Status wait_ended(std::chrono::milliseconds limit) const;

 private:
  friend class SocketStream;
  void add(ByteStream* stream);
  void remove(ByteStream* stream);

  mutable std::mutex mutex_;
  mutable std::condition_variable end_told_;
  Status ended_;
  std::set<ByteStream*> streams_;
};

class SocketStream final : public ByteStream {
 public:
  // `socket` is a message socket whose other end a helper relays.
  static StatusOr<std::unique_ptr<SocketStream>> create(UniqueFd socket,
                                                        std::shared_ptr<StreamGroup> group);
  ~SocketStream() override;

  StatusOr<IoResult> try_read(std::span<std::byte> into) override;
  StatusOr<IoResult> try_write(std::span<const std::byte> from) override;
  StatusOr<Readiness> wait(bool want_write, uint64_t deadline_ns) override;
  void wake() override;
  Status shutdown_write() override;

 private:
  SocketStream(UniqueFd socket, UniqueFd wake, std::shared_ptr<StreamGroup> group);
  // Takes the next message, if there is one and all of the one before was read.
  Status receive();
  bool readable() const { return at_ != end_ || at_end_ || !error_.ok(); }
  // Why the connection is over: what the machine's owner was told, or `why` where it is told
  // nothing in a second. The end of a machine comes by the events socket too, and the owner must
  // have it before those who talk with the guest.
  Status over(const Status& why) const;
  void take_wake() const;
  Status send_end();

  const UniqueFd socket_;
  const UniqueFd wake_;
  const std::shared_ptr<StreamGroup> group_;
  std::vector<std::byte> in_;
  size_t at_ = 0;
  size_t end_ = 0;
  bool at_end_ = false;
  bool write_shut_ = false;
  bool end_unsent_ = false;  // of our own side, for want of room
  Status error_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_SOCKET_STREAM_H_
