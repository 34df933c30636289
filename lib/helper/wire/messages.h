// Messages between an embedder's process and its helper processes. One datagram, one message.
//
// Thread rule: plain values and pure functions.
// Invariant: decoders take any bytes: what a helper says is as hostile as what its guest says.
// Both programs are built together and say so in the first message, so that there is one version.
#ifndef RAMET_LIB_HELPER_WIRE_MESSAGES_H_
#define RAMET_LIB_HELPER_WIRE_MESSAGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "devices/legacy/vmgenid.h"
#include "lib/instance/instance.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/status.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/enclosure.h"

namespace ramet::helper {

// A helper's descriptors.
inline constexpr int kControlFd = 3;  // requests and their replies, strictly in turn
inline constexpr int kEventsFd = 4;   // what happens, from the helper only
inline constexpr int kKvmFd = 5;
inline constexpr size_t kHelperFds = 3;

inline constexpr size_t kMaxMessage = 64 * 1024;
// Before each request: a number, which its reply begins with too, so that one that came too late is
// told from the one that is waited for. The first message of a helper has number 0.
using Sequence = uint32_t;
// Bytes of a conversation in one message, behind their tag.
inline constexpr size_t kMaxStreamPart = 32 * 1024;
inline constexpr size_t kMaxText = 4096;
inline constexpr size_t kMaxLogLine = 512;

// --- requests, on the control socket -------------------------------------------------------------
// Descriptors for the Fork or the Learn that follows: those of its plan.
struct Files {};
// Makes the machine: with it come the template's memory and the plan, where it is of no template
// that the process knows, where there is a scratch disk the file for what the guest writes to it,
// and with a first port the message socket of that conversation.
struct Fork {
  uint64_t template_id = 0;  // of a Learn; 0: of what comes with it
  GenerationId generation = {};
  uint32_t host_port_offset = 0;
  bool wants_console = false;
  // Not 0: the conversation with this port of the guest begins, and then the machine runs: what
  // Connect and Resume would do, for one message.
  uint32_t first_port = 0;
  bool prefetch = false;    // makes the template's working set ready before the guest runs
  bool take_shell = false;  // a machine that stands ready, where the process has one
  // More are made ahead once the first conversation is over.
  bool refill_shells = false;
  InstanceLimits limits = {};
};
// Begins a conversation with a port of the guest; with it comes a message socket that carries it.
struct Connect {
  uint32_t guest_port = 0;
};
struct Resume {};
struct Pause {};
struct AskMetrics {};
struct AskMemory {};
// Takes a snapshot of the machine, which goes on; with it come a file of kSnapshotRoom bytes for
// its SnapshotResult, one as large as guest memory for its pages, and, where the scratch disk may
// need one, the file for what the guest writes to that afterwards.
struct TakeSnapshot {
  uint64_t expected_bytes = 0;  // of pages: room that is made ready before the machine is paused
  uint32_t known_layers = 0;    // of the scratch disk, above its template's, that need not be told
};
// To a worker process only, on its first control socket:
// A machine that may be made; with it come the control socket and the events socket that are its
// own. No reply: where it fails they are closed.
struct NewMachine {};
// A template to make machines from; with it come its memory and its plan.
struct Learn {
  uint64_t template_id = 0;
};
// No further machine is made from it; 0: what was sent for a Learn that does not come. No reply.
struct Forget {
  uint64_t template_id = 0;
};
// How many machines are kept made ahead of need from now on; once. No reply.
struct KeepShells {
  uint32_t per_template = 0;
  uint32_t max = 0;  // over all templates
};
// Gives up what the process can do without: machines made ahead, idle threads. No reply.
struct Relieve {};
using Request = std::variant<Files, Fork, Connect, Resume, Pause, AskMetrics, AskMemory, NewMachine,
                             Learn, Forget, TakeSnapshot, KeepShells, Relieve>;
bool wants_reply(const Request& request);

std::vector<std::byte> encode(const Request& request);
StatusOr<Request> decode_request(std::span<const std::byte> bytes);

// --- replies: one to each request, and one before the first
// ---------------------------------------
struct Hello {
  std::string build = {};
  jail::Enclosure enclosure = {};
};
struct Done {
  Status status = {};
};
// To a Fork that was carried out.
struct Forked {
  uint64_t ready_ns = 0;  // CLOCK_MONOTONIC of when the machine stood ready, before it ran
};
// To a TakeSnapshot that was carried out.
struct SnapshotTaken {
  uint64_t result_bytes = 0;  // in the first file
  uint64_t pause_ns = 0;
};
using Reply = std::variant<Hello, Done, InstanceMetrics, MemoryUse, SnapshotTaken, Forked>;

std::vector<std::byte> encode(const Reply& reply);
// The helper's side of it.
struct NumberedRequest {
  Sequence number = 0;
  StatusOr<Request> request;
  std::vector<UniqueFd> files = {};
};
// The next request on this socket, by way of `room`, of kMaxMessage bytes. Unavailable where there
// is none now; another error where the embedder has gone.
StatusOr<NumberedRequest> receive_request(int control, std::span<std::byte> room);
sys::Result send_reply(int control, Sequence number, const Reply& reply);
StatusOr<Reply> decode_reply(std::span<const std::byte> bytes);

// --- events, on the events socket
// ------------------------------------------------------------------
struct ConsoleBytes {
  std::string text = {};
};
// The machine ended by itself.
struct Ended {
  Status why = {};  // never OK
  InstanceMetrics metrics = {};
};
struct LogLine {
  LogLevel level = LogLevel::kInfo;
  std::string text = {};
};
// System calls that threads of this process were refused, or with Confinement::kLog let through.
struct RefusedCalls {
  uint64_t count = 0;  // since it began
};
using Event = std::variant<ConsoleBytes, Ended, LogLine, RefusedCalls>;

std::vector<std::byte> encode(const Event& event);
StatusOr<Event> decode_event(std::span<const std::byte> bytes);

// --- a conversation's own socket, both ways
// ---------------------------------------------------------
enum class StreamTag : uint8_t {
  kData = 1,   // bytes follow, at least one
  kEnd = 2,    // no more come from this side
  kError = 3,  // from the helper only, and the last: a Status follows
};
std::vector<std::byte> encode_stream_error(const Status& status);
// What stands behind StreamTag::kError; never OK.
Status decode_stream_error(std::span<const std::byte> bytes);

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WIRE_MESSAGES_H_
