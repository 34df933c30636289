// Conversation: whole messages over one ByteStream, with the Hellos checked: what every request of
// the agent client is made of.
//
// Thread rule: one thread; wake() alone may be called from any thread.
// Invariant: holds at most one received frame, one read buffer, and the frames queued by its user;
// nothing the guest sends is passed on before its Hello was checked.
#ifndef RAMET_LIB_AGENT_CONVERSATION_H_
#define RAMET_LIB_AGENT_CONVERSATION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/agent/stream.h"
#include "lib/agent/wire.h"
#include "vmm/base/status.h"

namespace ramet {

// What the agent said of itself. The guest wrote it: show it, do not trust it.
struct AgentInfo {
  std::string kernel_release;
  std::string build_id;
};

class Conversation {
 public:
  explicit Conversation(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}

  // Adds a frame to what is to be written; our Hello goes in front of the first one.
  // InvalidArgument when the message breaks a limit of wire.h; then nothing was queued.
  Status queue(const wire::Message& message);
  // Until it goes on: gives back the buffer for reading, where nothing read is left in it.
  void rest();
  bool has_queued() const { return outbox_used_ < outbox_.size(); }

  // Writes what the stream takes now; says whether anything moved.
  StatusOr<bool> write_some();
  // One message if one can be had without blocking; reads at most once from the stream.
  StatusOr<std::optional<wire::Message>> read_some();

  // Blocking: writes everything queued; waits for the next message.
  Status flush(uint64_t deadline_ns);
  StatusOr<wire::Message> receive(uint64_t deadline_ns);
  // Waits for the agent's Hello if it has not come yet. DataLoss when something else comes.
  StatusOr<AgentInfo> receive_hello(uint64_t deadline_ns);

  // Until the stream is readable, or writable while something is queued, or woken.
  // DeadlineExceeded at `deadline_ns` (CLOCK_MONOTONIC, 0 = none).
  Status wait(uint64_t deadline_ns);
  void wake() { stream_->wake(); }

 private:
  // The next whole message from the bytes at hand; swallows the agent's Hello.
  StatusOr<std::optional<wire::Message>> cut_message();
  Status accept_hello(const wire::Message& message);

  std::unique_ptr<ByteStream> stream_;
  wire::FrameReader reader_;
  std::unique_ptr<std::byte[]> inbox_;     // kReadBytes, made at the first read
  std::span<const std::byte> inbox_rest_;  // of inbox_: read from the stream, not yet cut
  std::vector<std::byte> outbox_;
  size_t outbox_used_ = 0;
  bool hello_queued_ = false;
  std::optional<AgentInfo> agent_;
};

// The Status for an Error message of the agent; and for a message that came out of turn.
Status status_of(const wire::Error& error);
Status out_of_turn(const wire::Message& message, std::string_view expected);
// Guest text made fit for a message: control and non-ASCII bytes are escaped.
std::string printable(std::string_view text);

}  // namespace ramet

#endif  // RAMET_LIB_AGENT_CONVERSATION_H_
