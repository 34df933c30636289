// AgentClient: one conversation of the host with the agent in the guest, over one vsock connection:
// control requests in any number, then at most one exec.
//
// Thread rule: one thread; wake() alone may be called from any thread.
// Invariant: the guest is hostile: whatever it sends, memory stays below one frame plus the capture
// limits, and each call returns by its deadline.
#ifndef RAMET_LIB_AGENT_CLIENT_H_
#define RAMET_LIB_AGENT_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/agent/conversation.h"
#include "lib/agent/stream.h"
#include "lib/agent/wire.h"
#include "vmm/base/status.h"

namespace ramet {

// Captured output beyond this is dropped, and the outcome says so.
inline constexpr size_t kDefaultCaptureBytes = 8 * 1024 * 1024;
// After a command's timeout: how long the agent may take to report the kill.
inline constexpr uint64_t kKillGraceNs = 2'000'000'000;

// Where a command's input comes from.
class StdinSource {
 public:
  virtual ~StdinSource() = default;
  // Must not block. kWouldBlock: nothing yet; the source's owner calls AgentClient::wake() when
  // there is more. kEnd: nothing more. An error ends the exec with that error.
  virtual StatusOr<IoResult> try_read(std::span<std::byte> into) = 0;
  // Before the first read, with what to call when there is more after kWouldBlock, from any thread;
  // and, with an empty function, when nothing may be called any more.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): overrides keep it
  virtual void attach(std::function<void()> /*wake*/) {}
};

// A StdinSource over bytes that the caller keeps alive.
class SpanSource final : public StdinSource {
 public:
  explicit SpanSource(std::span<const std::byte> bytes) : rest_(bytes) {}
  StatusOr<IoResult> try_read(std::span<std::byte> into) override;

 private:
  std::span<const std::byte> rest_;
};

// Takes output as it comes, on the calling thread. An error kills the command and ends the exec
// with that error. While a sink blocks, the guest is held back and no timeout fires.
using OutputSink = std::function<Status(std::span<const std::byte>)>;

struct ExecSpec {
  std::vector<std::string> argv;  // at least one
  std::vector<std::string> env;   // NAME=value, the whole environment of the command
  std::string cwd;                // absolute; empty = "/"
  wire::User user;
  StdinSource* stdin_source = nullptr;          // null: /dev/null
  OutputSink stdout_sink;                       // none: captured into the outcome
  OutputSink stderr_sink;                       // none: captured into the outcome
  size_t capture_bytes = kDefaultCaptureBytes;  // for each of the two
  uint64_t max_output_bytes = 0;                // of both together; then it is killed. 0 = no limit
  uint64_t timeout_ns = 0;                      // from the call to the exit; 0 = none
};

// What the guest did.
struct ExecOutcome {
  enum class Kind : uint8_t { kExited, kSignalled };
  Kind kind = Kind::kExited;
  int exit_code = 0;  // kExited: 0..255; 127 command not found, 126 not executable
  int signal = 0;     // kSignalled
  bool timed_out = false;
  bool output_limited = false;  // killed for its output, of which `output_bytes` came
  uint64_t output_bytes = 0;    // of both together
  std::string stdout_data;
  std::string stderr_data;
  bool stdout_truncated = false;
  bool stderr_truncated = false;
};

// 64 bytes of fresh host entropy, a fresh generation id, the host's wall clock, and a fresh
// machine-id; `hostname` as given.
StatusOr<wire::Reseed> make_reseed(std::string hostname);

// The processes of a reply, some of them by name; for people.
std::string list_processes(const wire::FreezeReply& reply);

// Common errors: DeadlineExceeded at `deadline_ns` (CLOCK_MONOTONIC, 0 = none), Unavailable when
// the connection was reset or ended early, Cancelled when the stream was, DataLoss when the guest
// sent what is no message or one out of turn, FailedPrecondition when the agent is frozen and
// waits for its reseed or speaks another version, Internal when it reports a failure of its own.
// After an error the conversation is over: every later call gives FailedPrecondition. Destroying
// the client resets the connection, and that kills a command that still runs.
class AgentClient {
 public:
  explicit AgentClient(std::unique_ptr<ByteStream> stream) : conversation_(std::move(stream)) {}

  // Waits for the agent's Hello on the connection that it opened to kReadyPort: it is how the host
  // learns that the guest is ready. On connections that we opened the other calls send and check
  // Hellos on their own, without a round trip.
  StatusOr<AgentInfo> handshake(uint64_t deadline_ns);
  Status ping(uint64_t deadline_ns);
  // OK only when the agent acknowledged this very generation.
  Status reseed(const wire::Reseed& reseed, uint64_t deadline_ns);
  // The same in two parts. The first does not wait: of a guest that does not run yet, the request
  // is there when it does.
  Status begin_reseed(const wire::Reseed& reseed);
  Status end_reseed(const wire::Reseed& reseed, uint64_t deadline_ns);
  // live_count 0: the guest is frozen and this conversation over. Else it runs on as before.
  StatusOr<wire::FreezeReply> freeze(uint64_t deadline_ns);
  // live_count 0: every process of the guest but its agent is held until thaw(), or the reseed of
  // what is restored of it. Else nothing is held. The conversation runs on, and its end thaws
  // nothing.
  StatusOr<wire::FreezeReply> suspend(uint64_t deadline_ns);
  Status thaw(uint64_t deadline_ns);
  // Sent, not answered: watch the machine for its end.
  Status poweroff(uint64_t deadline_ns);

  // Runs one command; the conversation is over afterwards. At spec.timeout_ns the command is
  // killed: the outcome says timed_out, or DeadlineExceeded when the agent does not report within
  // kKillGraceNs. A command that could not be started for the working directory, the user, or want
  // of resources is a Status that says which; a command that is missing is an outcome (127).
  // InvalidArgument when the request breaks a limit of wire.h, before anything is sent.
  StatusOr<ExecOutcome> exec(const ExecSpec& spec);

  // Holds less memory until its next request.
  void rest() { conversation_.rest(); }

  // Any thread: lets a running exec() look at its StdinSource again.
  void wake() { conversation_.wake(); }

 private:
  Status start_request();
  // Freeze or Suspend: `doing` says so.
  StatusOr<wire::FreezeReply> request_freeze(const wire::Message& message, const char* doing,
                                             uint64_t deadline_ns);
  // A request in two parts, of which the first does not wait; and both.
  Status post(const wire::Message& message);
  StatusOr<wire::Message> answer(uint64_t deadline_ns);
  StatusOr<wire::Message> request(const wire::Message& message, uint64_t deadline_ns);
  // Passes `status` on; an error ends the conversation.
  Status finish(Status status);

  Conversation conversation_;
  bool over_ = false;
};

}  // namespace ramet

#endif  // RAMET_LIB_AGENT_CLIENT_H_
