// The wire between host and agent: what a frame is, what messages there are, their limits, and the
// pure functions that encode and decode them. Both sides compile this file, so it uses the standard
// library only (the agent is a static program without Abseil).
//
// Frame: u32 payload length, u8 type, u8 flags = 0, u16 reserved = 0, payload; little-endian.
// In payloads: integers little-endian, a string is u32 length + bytes, a list is u16 count + items.
//
// Thread rule: pure functions; a FrameReader belongs to one thread.
// Invariant: decode() accepts exactly the byte strings that encode() makes; every length and count
// is checked against a constant below before anything is allocated for it.
#ifndef RAMET_LIB_AGENT_WIRE_H_
#define RAMET_LIB_AGENT_WIRE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ramet::wire {

// The agent listens on kAgentPort; when it is ready it connects to the host's kReadyPort once and
// sends a Hello there, so that the host need not poll.
inline constexpr uint32_t kAgentPort = 1024;
inline constexpr uint32_t kReadyPort = 1025;
inline constexpr uint32_t kHostCid = 2;

// Changes with any change of layout or meaning; both sides refuse another version. A request that
// is new needs none: an agent that does not know it refuses it (kProtocol). The Hello's own layout
// never changes, so that a mismatch can be named.
inline constexpr uint16_t kProtocolVersion = 1;

inline constexpr size_t kHeaderBytes = 8;
inline constexpr size_t kMaxPayloadBytes = 64 * 1024;
inline constexpr size_t kMaxFrameBytes = kHeaderBytes + kMaxPayloadBytes;

// Largest stdout, stderr or stdin piece in one frame.
inline constexpr size_t kMaxDataBytes = 32 * 1024;
// Stdin bytes the host may have sent beyond what StdinCredit gave back. It lets the agent read the
// connection always, so that a Signal is seen behind input that the command does not take.
inline constexpr size_t kStdinWindowBytes = 64 * 1024;

// ExecRequest: all of it fits one frame; these bound the parts.
inline constexpr size_t kMaxArguments = 1024;
inline constexpr size_t kMaxEnvironment = 1024;
inline constexpr size_t kMaxPathBytes = 4095;
inline constexpr size_t kMaxUserNameBytes = 256;
inline constexpr size_t kMaxExecBytes = kMaxPayloadBytes;

inline constexpr size_t kEntropyBytes = 64;
inline constexpr size_t kGenerationBytes = 16;
inline constexpr size_t kMaxHostNameBytes = 64;  // Linux: __NEW_UTS_LEN
inline constexpr size_t kMachineIdBytes = 32;    // machine-id(5): 32 lower-case hexadecimal digits
inline constexpr size_t kMaxReleaseBytes = 128;
inline constexpr size_t kMaxBuildIdBytes = 128;
inline constexpr size_t kMaxTextBytes = 1024;  // of an Error or a failed start
inline constexpr size_t kMaxListedProcesses = 64;
inline constexpr size_t kMaxCommBytes = 64;  // Linux: TASK_COMM_LEN is 16, kernel threads more
inline constexpr int32_t kMaxSignal = 64;

enum class MessageType : uint8_t {
  kHello = 1,
  kExecRequest = 2,
  kStdin = 3,
  kStdinEof = 4,
  kStdinCredit = 5,
  kStdout = 6,
  kStderr = 7,
  kExit = 8,
  kSignal = 9,
  kReseed = 10,
  kReseedAck = 11,
  kFreeze = 12,
  kFreezeReply = 13,
  kPing = 14,
  kPong = 15,
  kPoweroff = 16,
  kError = 17,
  kSuspend = 18,
  kThaw = 19,
  kThawed = 20,
};

// First frame of each side on every connection. The host may send its next message without waiting
// for the agent's Hello, which comes with the agent's first answer, or alone where the host's came
// alone: each packet of the guest's is a few exits. The host leaves release and build id empty.
struct Hello {
  uint16_t version = kProtocolVersion;
  std::string kernel_release;  // uname -r of the guest
  std::string build_id;        // which agent this is
  bool operator==(const Hello&) const = default;
};

// Whom a command runs as. A name is looked up in the guest's /etc/passwd and brings its groups.
struct User {
  enum class Kind : uint8_t { kRoot = 0, kIds = 1, kName = 2 };
  Kind kind = Kind::kRoot;
  uint32_t uid = 0;  // kIds only
  uint32_t gid = 0;  // kIds only
  std::string name;  // kName only
  bool operator==(const User&) const = default;
};

// Host: run a command. At most one per connection, and its last request.
struct ExecRequest {
  std::vector<std::string> argv;  // at least one; argv[0] without '/' is searched in env's PATH
  std::vector<std::string> env;   // NAME=value; all of the command's environment
  std::string cwd;                // absolute; empty = "/"
  User user;
  bool has_stdin = false;   // false: /dev/null
  uint32_t timeout_ms = 0;  // the guest's own guard: SIGKILL to the whole command; 0 = none
  bool operator==(const ExecRequest&) const = default;
};

// Data of a running command; 1 to kMaxDataBytes bytes.
struct Stdin {
  std::vector<std::byte> data;
  bool operator==(const Stdin&) const = default;
};
struct Stdout {
  std::vector<std::byte> data;
  bool operator==(const Stdout&) const = default;
};
struct Stderr {
  std::vector<std::byte> data;
  bool operator==(const Stderr&) const = default;
};
// Host: no more Stdin will follow.
struct StdinEof {
  bool operator==(const StdinEof&) const = default;
};
// Agent: the command took `bytes` of its input. `closed`: it reads no more; send none.
struct StdinCredit {
  uint32_t bytes = 0;
  bool closed = false;
  bool operator==(const StdinCredit&) const = default;
};

// Agent: the command ended; its output was sent before. The agent closes the connection after it.
struct Exit {
  enum class Kind : uint8_t {
    kExited = 0,         // code = exit status 0..255
    kSignalled = 1,      // code = signal number 1..kMaxSignal
    kFailedToStart = 2,  // code = errno, text says which step (working directory, user, fork...).
                         // Not for a command that is missing (exit 127) or not executable (126).
  };
  Kind kind = Kind::kExited;
  int32_t code = 0;
  bool timed_out = false;  // the guest's guard killed it
  std::string text;        // kFailedToStart only
  bool operator==(const Exit&) const = default;
};

// Host: send `number` to the command's process group; SIGKILL reaches all its descendants.
struct Signal {
  int32_t number = 0;
  bool operator==(const Signal&) const = default;
};

// Host: become another machine. The first thing after a restore, and the only request that a frozen
// agent takes.
struct Reseed {
  std::array<std::byte, kEntropyBytes> entropy = {};
  std::array<std::byte, kGenerationBytes> generation = {};
  uint64_t realtime_ns = 0;  // CLOCK_REALTIME to set; 0 = leave
  std::string hostname;      // empty = leave
  std::string machine_id;    // 32 lower-case hexadecimal digits; empty = leave
  bool operator==(const Reseed&) const = default;
};
// Agent: the kernel took the entropy and reseeded; identity is set.
struct ReseedAck {
  std::array<std::byte, kGenerationBytes> generation = {};
  bool operator==(const ReseedAck&) const = default;
};

// Host: prepare to be saved.
struct Freeze {
  bool operator==(const Freeze&) const = default;
};
struct LiveProcess {
  uint32_t pid = 0;
  std::string comm;
  bool operator==(const LiveProcess&) const = default;
};
// Agent: frozen when `live_count` is 0 (all other connections are closed, file systems synced, and
// only Reseed is answered from now on); else nothing changed and `processes` names the first ones.
struct FreezeReply {
  uint32_t live_count = 0;
  std::vector<LiveProcess> processes;  // min(live_count, kMaxListedProcesses)
  bool operator==(const FreezeReply&) const = default;
};

// Host: hold every process but the agent where it is, to be saved and to go on. Answered by a
// FreezeReply: held when `live_count` is 0; else nothing changed, and `processes` names the first
// of those that the agent cannot hold (they left its control group, or there is none). What was
// asked for before goes on after it. A guest that is held takes Thaw, which is for the one that was
// saved, and Reseed, which is for what was restored of it: that one has no other conversations, and
// ends the commands of those that it had, before it goes on. The end of a connection does not thaw:
// the restored guest cannot tell it from its own birth.
struct Suspend {
  bool operator==(const Suspend&) const = default;
};
struct Thaw {
  bool operator==(const Thaw&) const = default;
};
// Agent: nothing is held any more.
struct Thawed {
  bool operator==(const Thawed&) const = default;
};

struct Ping {
  uint64_t token = 0;
  bool operator==(const Ping&) const = default;
};
struct Pong {
  uint64_t token = 0;
  bool operator==(const Pong&) const = default;
};
// Host: sync and power off. No reply: the machine ends.
struct Poweroff {
  bool operator==(const Poweroff&) const = default;
};

enum class ErrorCode : uint16_t {
  kProtocol = 1,      // a frame or message that is none, or at the wrong time
  kVersion = 2,       // another kProtocolVersion
  kNotReseeded = 3,   // frozen: nothing but Reseed is served
  kReseedFailed = 4,  // the kernel refused; the machine must not be used
  kBusy = 5,          // too many commands or connections
  kInternal = 6,
};
// Agent: the request was refused; the connection closes after it.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string text;
  bool operator==(const Error&) const = default;
};

using Message = std::variant<Hello, ExecRequest, Stdin, StdinEof, StdinCredit, Stdout, Stderr, Exit,
                             Signal, Reseed, ReseedAck, Freeze, FreezeReply, Ping, Pong, Poweroff,
                             Error, Suspend, Thaw, Thawed>;

// Why bytes were refused: a fixed English phrase, no memory owned.
struct WireError {
  std::string_view what;
};

// A T or a WireError.
template <typename T>
class Decoded {
 public:
  Decoded(T value) : value_(std::move(value)) {}  // NOLINT: implicit by design, as StatusOr
  Decoded(WireError error) : error_(error) {}     // NOLINT
  bool ok() const { return value_.has_value(); }
  const T& value() const { return *value_; }
  T take() { return std::move(*value_); }
  std::string_view error() const { return error_.what; }

 private:
  std::optional<T> value_;
  WireError error_;
};

struct Header {
  uint32_t payload_bytes = 0;
  MessageType type = MessageType::kHello;
};

// The type of a message, and its name for error texts ("ExecRequest").
MessageType type_of(const Message& message);
std::string_view name_of(MessageType type);

// The header in front of a payload; for a sender that has its data in place already.
std::array<std::byte, kHeaderBytes> encode_header(const Header& header);
Decoded<Header> decode_header(std::span<const std::byte, kHeaderBytes> bytes);

// A whole frame, header included; an error when the message breaks a limit above.
Decoded<std::vector<std::byte>> encode(const Message& message);
// The message of one whole payload; every byte must be used.
Decoded<Message> decode(MessageType type, std::span<const std::byte> payload);

// Cuts a byte stream into frames and holds at most one. Memory grows with bytes received, not with
// the length that a header claims, and never beyond kMaxFrameBytes.
class FrameReader {
 public:
  // Takes bytes from the front of `input` until the frame is complete; says how many. 0 when a
  // frame is complete or the stream is broken.
  size_t feed(std::span<const std::byte> input);

  bool complete() const { return complete_; }
  // Set once a header is refused; the stream cannot be read further.
  const std::optional<WireError>& error() const { return error_; }
  // True between frames: an end of stream here is orderly.
  bool empty() const { return buffer_.empty() && !error_; }

  // Of the complete frame.
  MessageType type() const { return header_.type; }
  std::span<const std::byte> payload() const;
  Decoded<Message> message() const { return decode(type(), payload()); }

  // Forgets the complete frame; the next may be fed.
  void next();

 private:
  std::vector<std::byte> buffer_;
  Header header_;
  bool complete_ = false;
  std::optional<WireError> error_;
};

}  // namespace ramet::wire

#endif  // RAMET_LIB_AGENT_WIRE_H_
