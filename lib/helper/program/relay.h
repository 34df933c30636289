// Relay: carries the bytes of one conversation between a stream of the vsock device and a message
// socket of the embedder's.
//
// Thread rule: the helper's first thread; the stream's listener alone comes from others.
// Invariant: holds at most one part of bytes for each direction; never waits.
#ifndef RAMET_LIB_HELPER_PROGRAM_RELAY_H_
#define RAMET_LIB_HELPER_PROGRAM_RELAY_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "devices/vsock/stream.h"
#include "lib/helper/program/waker.h"
#include "lib/helper/wire/messages.h"
#include "vmm/base/unique_fd.h"

namespace ramet::helper {

class Relay {
 public:
  // `waker` outlives it.
  Relay(std::unique_ptr<VsockStream> stream, UniqueFd socket, Waker* waker);

  int socket() const { return socket_.get(); }
  // True once since the stream changed, or since run() left work undone.
  bool take_dirty() { return dirty_.exchange(false); }
  // Carries what can be carried now. False when the conversation is over.
  bool run();

 private:
  bool guest_to_host();
  bool host_to_guest();
  void fill_from_guest();
  // False when the peer has gone.
  bool fill_from_host();
  void leave_for_later();

  const std::unique_ptr<VsockStream> stream_;
  const UniqueFd socket_;
  Waker& waker_;
  std::atomic<bool> dirty_{true};

  StreamTag tag_ = StreamTag::kData;  // of what waits for the host
  std::vector<std::byte> to_host_;    // what waits; with kData, empty: nothing
  bool guest_done_ = false;           // kEnd or kError is what waits, or was sent
  bool sent_last_ = false;

  std::vector<std::byte> in_;  // room for a message of the host's
  size_t to_guest_at_ = 0;     // what of it waits for the guest
  size_t to_guest_end_ = 0;
  bool host_done_ = false;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_RELAY_H_
