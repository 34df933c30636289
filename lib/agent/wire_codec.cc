// The payload of each message, both directions. A message is checked by one check() on its way out
// and on its way in, so that the two sides cannot disagree about the limits.
#include <algorithm>
#include <cstring>

#include "lib/agent/wire.h"

namespace ramet::wire {
namespace {

using Bytes = std::span<const std::byte>;
// Empty: fine.
using Trouble = std::string_view;

// ---- primitive fields ----

class Writer {
 public:
  template <typename T>
  void integer(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      out_.push_back(static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i)));
    }
  }
  void raw(Bytes bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void text(std::string_view text) {
    integer(static_cast<uint32_t>(text.size()));
    raw(std::as_bytes(std::span(text)));
  }
  void list(const std::vector<std::string>& items) {
    integer(static_cast<uint16_t>(items.size()));
    for (const std::string& item : items) {
      text(item);
    }
  }
  size_t size() const { return out_.size(); }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

// Reads past the end give zeros and set failed(): one check at the end serves every field.
class Reader {
 public:
  explicit Reader(Bytes rest) : rest_(rest) {}

  template <typename T>
  T integer() {
    const Bytes bytes = raw(sizeof(T));
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
    }
    return static_cast<T>(value);
  }
  bool boolean() {
    const auto value = integer<uint8_t>();
    failed_ = failed_ || value > 1;
    return value == 1;
  }
  template <size_t kSize>
  void array(std::array<std::byte, kSize>& into) {
    std::ranges::copy(raw(kSize), into.begin());
  }
  std::string text(size_t limit) {
    const auto size = integer<uint32_t>();
    if (size > limit) {
      failed_ = true;
      return {};
    }
    const Bytes bytes = raw(size);
    std::string value(bytes.size(), '\0');
    if (!bytes.empty()) {  // memcpy takes no null pointer, not even for 0 bytes
      std::memcpy(value.data(), bytes.data(), bytes.size());
    }
    return value;
  }
  std::vector<std::string> list(size_t limit) {
    std::vector<std::string> items;
    const auto count = integer<uint16_t>();
    failed_ = failed_ || count > limit;
    for (size_t i = 0; i < count && !failed_; ++i) {
      items.push_back(text(kMaxPayloadBytes));
    }
    return items;
  }
  std::vector<std::byte> rest() {
    const Bytes bytes = raw(rest_.size());
    return {bytes.begin(), bytes.end()};
  }
  bool failed() const { return failed_; }
  void fail() { failed_ = true; }
  bool at_end() const { return rest_.empty(); }

 private:
  Bytes raw(size_t size) {
    if (failed_ || size > rest_.size()) {
      failed_ = true;
      return {};
    }
    const Bytes taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }

  Bytes rest_;
  bool failed_ = false;
};

// ---- checks common to both directions ----

bool is_c_string(std::string_view text) { return text.find('\0') == std::string_view::npos; }

bool is_hexadecimal(std::string_view text) {
  return std::ranges::all_of(
      text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Trouble check_data(const std::vector<std::byte>& data) {
  if (data.empty()) {
    return "data message without data";
  }
  return data.size() > kMaxDataBytes ? "data longer than kMaxDataBytes" : Trouble();
}

Trouble check(const Hello& m) {
  if (m.kernel_release.size() > kMaxReleaseBytes) {
    return "kernel release longer than kMaxReleaseBytes";
  }
  return m.build_id.size() > kMaxBuildIdBytes ? "build id longer than kMaxBuildIdBytes" : Trouble();
}

Trouble check(const User& user) {
  if (user.kind > User::Kind::kName) {
    return "user of unknown kind";
  }
  if (user.kind != User::Kind::kIds && (user.uid != 0 || user.gid != 0)) {
    return "user ids given for a user that is not chosen by ids";
  }
  if ((user.kind == User::Kind::kName) == user.name.empty()) {
    return "user name missing, or given for a user that is not chosen by name";
  }
  if (user.name.size() > kMaxUserNameBytes || !is_c_string(user.name)) {
    return "user name longer than kMaxUserNameBytes or with a NUL";
  }
  return {};
}

Trouble check(const ExecRequest& m) {
  if (m.argv.empty() || m.argv[0].empty()) {
    return "no command";
  }
  if (m.argv.size() > kMaxArguments) {
    return "more than kMaxArguments arguments";
  }
  if (m.env.size() > kMaxEnvironment) {
    return "more than kMaxEnvironment environment entries";
  }
  if (!std::ranges::all_of(m.argv, is_c_string)) {
    return "argument with a NUL";
  }
  for (const std::string& entry : m.env) {
    if (!is_c_string(entry) || entry.find('=') == std::string::npos || entry[0] == '=') {
      return "environment entry that is not NAME=value";
    }
  }
  if (m.cwd.size() > kMaxPathBytes || !is_c_string(m.cwd) || (!m.cwd.empty() && m.cwd[0] != '/')) {
    return "working directory that is not an absolute path of at most kMaxPathBytes";
  }
  return check(m.user);
}

Trouble check(const Stdin& m) { return check_data(m.data); }
Trouble check(const Stdout& m) { return check_data(m.data); }
Trouble check(const Stderr& m) { return check_data(m.data); }
Trouble check(const StdinEof&) { return {}; }

Trouble check(const StdinCredit& m) {
  if (m.bytes > kStdinWindowBytes) {
    return "stdin credit beyond kStdinWindowBytes";
  }
  return m.bytes == 0 && !m.closed ? "stdin credit of nothing" : Trouble();
}

Trouble check(const Exit& m) {
  switch (m.kind) {
    case Exit::Kind::kExited:
      if (m.code < 0 || m.code > 255) {
        return "exit status outside 0..255";
      }
      break;
    case Exit::Kind::kSignalled:
      if (m.code < 1 || m.code > kMaxSignal) {
        return "signal outside 1..kMaxSignal";
      }
      break;
    case Exit::Kind::kFailedToStart:
      if (m.code < 1 || m.code > 4095) {
        return "errno outside 1..4095";
      }
      return m.text.size() > kMaxTextBytes ? "text longer than kMaxTextBytes" : Trouble();
    default:
      return "exit of unknown kind";
  }
  return m.text.empty() ? Trouble() : "text in the exit of a command that ran";
}

Trouble check(const Signal& m) {
  return m.number < 1 || m.number > kMaxSignal ? "signal outside 1..kMaxSignal" : Trouble();
}

Trouble check(const Reseed& m) {
  if (m.hostname.size() > kMaxHostNameBytes || !is_c_string(m.hostname)) {
    return "host name longer than kMaxHostNameBytes or with a NUL";
  }
  if (!m.machine_id.empty() &&
      (m.machine_id.size() != kMachineIdBytes || !is_hexadecimal(m.machine_id))) {
    return "machine-id that is not 32 lower-case hexadecimal digits";
  }
  return {};
}

Trouble check(const ReseedAck&) { return {}; }
Trouble check(const Freeze&) { return {}; }

Trouble check(const FreezeReply& m) {
  if (m.processes.size() != std::min<size_t>(m.live_count, kMaxListedProcesses)) {
    return "process list that does not match its count";
  }
  const bool fits = std::ranges::all_of(
      m.processes, [](const LiveProcess& p) { return p.comm.size() <= kMaxCommBytes; });
  return fits ? Trouble() : "process name longer than kMaxCommBytes";
}

Trouble check(const Suspend&) { return {}; }
Trouble check(const Thaw&) { return {}; }
Trouble check(const Thawed&) { return {}; }
Trouble check(const Ping&) { return {}; }
Trouble check(const Pong&) { return {}; }
Trouble check(const Poweroff&) { return {}; }

Trouble check(const Error& m) {
  if (m.code < ErrorCode::kProtocol || m.code > ErrorCode::kInternal) {
    return "unknown error code";
  }
  return m.text.size() > kMaxTextBytes ? "text longer than kMaxTextBytes" : Trouble();
}

// ---- fields of each message: put() writes, get() reads, in the same order ----

void put(Writer& w, const Hello& m) {
  w.integer(m.version);
  w.text(m.kernel_release);
  w.text(m.build_id);
}
void get(Reader& r, Hello& m) {
  m.version = r.integer<uint16_t>();
  m.kernel_release = r.text(kMaxReleaseBytes);
  m.build_id = r.text(kMaxBuildIdBytes);
}

void put(Writer& w, const ExecRequest& m) {
  w.list(m.argv);
  w.list(m.env);
  w.text(m.cwd);
  w.integer(static_cast<uint8_t>(m.user.kind));
  w.integer(m.user.uid);
  w.integer(m.user.gid);
  w.text(m.user.name);
  w.integer(static_cast<uint8_t>(m.has_stdin));
  w.integer(m.timeout_ms);
}
void get(Reader& r, ExecRequest& m) {
  m.argv = r.list(kMaxArguments);
  m.env = r.list(kMaxEnvironment);
  m.cwd = r.text(kMaxPathBytes);
  m.user.kind = static_cast<User::Kind>(r.integer<uint8_t>());
  m.user.uid = r.integer<uint32_t>();
  m.user.gid = r.integer<uint32_t>();
  m.user.name = r.text(kMaxUserNameBytes);
  m.has_stdin = r.boolean();
  m.timeout_ms = r.integer<uint32_t>();
}

void put(Writer& w, const Stdin& m) { w.raw(m.data); }
void get(Reader& r, Stdin& m) { m.data = r.rest(); }
void put(Writer& w, const Stdout& m) { w.raw(m.data); }
void get(Reader& r, Stdout& m) { m.data = r.rest(); }
void put(Writer& w, const Stderr& m) { w.raw(m.data); }
void get(Reader& r, Stderr& m) { m.data = r.rest(); }
void put(Writer&, const StdinEof&) {}
void get(Reader&, StdinEof&) {}

void put(Writer& w, const StdinCredit& m) {
  w.integer(m.bytes);
  w.integer(static_cast<uint8_t>(m.closed));
}
void get(Reader& r, StdinCredit& m) {
  m.bytes = r.integer<uint32_t>();
  m.closed = r.boolean();
}

void put(Writer& w, const Exit& m) {
  w.integer(static_cast<uint8_t>(m.kind));
  w.integer(m.code);
  w.integer(static_cast<uint8_t>(m.timed_out));
  w.text(m.text);
}
void get(Reader& r, Exit& m) {
  m.kind = static_cast<Exit::Kind>(r.integer<uint8_t>());
  m.code = r.integer<int32_t>();
  m.timed_out = r.boolean();
  m.text = r.text(kMaxTextBytes);
}

void put(Writer& w, const Signal& m) { w.integer(m.number); }
void get(Reader& r, Signal& m) { m.number = r.integer<int32_t>(); }

void put(Writer& w, const Reseed& m) {
  w.raw(m.entropy);
  w.raw(m.generation);
  w.integer(m.realtime_ns);
  w.text(m.hostname);
  w.text(m.machine_id);
}
void get(Reader& r, Reseed& m) {
  r.array(m.entropy);
  r.array(m.generation);
  m.realtime_ns = r.integer<uint64_t>();
  m.hostname = r.text(kMaxHostNameBytes);
  m.machine_id = r.text(kMachineIdBytes);
}

void put(Writer& w, const ReseedAck& m) { w.raw(m.generation); }
void get(Reader& r, ReseedAck& m) { r.array(m.generation); }
void put(Writer&, const Freeze&) {}
void get(Reader&, Freeze&) {}

void put(Writer& w, const FreezeReply& m) {
  w.integer(m.live_count);
  w.integer(static_cast<uint16_t>(m.processes.size()));
  for (const LiveProcess& process : m.processes) {
    w.integer(process.pid);
    w.text(process.comm);
  }
}
void get(Reader& r, FreezeReply& m) {
  m.live_count = r.integer<uint32_t>();
  const auto count = r.integer<uint16_t>();
  if (count > kMaxListedProcesses) {
    r.fail();
  }
  for (size_t i = 0; i < count && !r.failed(); ++i) {
    const auto pid = r.integer<uint32_t>();
    m.processes.push_back({pid, r.text(kMaxCommBytes)});
  }
}

void put(Writer&, const Suspend&) {}
void get(Reader&, Suspend&) {}
void put(Writer&, const Thaw&) {}
void get(Reader&, Thaw&) {}
void put(Writer&, const Thawed&) {}
void get(Reader&, Thawed&) {}

void put(Writer& w, const Ping& m) { w.integer(m.token); }
void get(Reader& r, Ping& m) { m.token = r.integer<uint64_t>(); }
void put(Writer& w, const Pong& m) { w.integer(m.token); }
void get(Reader& r, Pong& m) { m.token = r.integer<uint64_t>(); }
void put(Writer&, const Poweroff&) {}
void get(Reader&, Poweroff&) {}

void put(Writer& w, const Error& m) {
  w.integer(static_cast<uint16_t>(m.code));
  w.text(m.text);
}
void get(Reader& r, Error& m) {
  m.code = static_cast<ErrorCode>(r.integer<uint16_t>());
  m.text = r.text(kMaxTextBytes);
}

// ---- the table of types: alternative I of Message has type I + 1 ----

static_assert(std::variant_size_v<Message> == static_cast<size_t>(MessageType::kThawed));
static_assert(std::is_same_v<std::variant_alternative_t<0, Message>, Hello>);
static_assert(std::is_same_v<std::variant_alternative_t<7, Message>, Exit>);
static_assert(std::is_same_v<std::variant_alternative_t<16, Message>, Error>);
static_assert(std::is_same_v<std::variant_alternative_t<19, Message>, Thawed>);

template <typename T>
Decoded<Message> decode_as(Bytes payload) {
  Reader reader(payload);
  T message;
  get(reader, message);
  if (reader.failed()) {
    return WireError{"field cut short, over its limit, or not a boolean"};
  }
  if (!reader.at_end()) {
    return WireError{"bytes left over after the message"};
  }
  if (const Trouble trouble = check(message); !trouble.empty()) {
    return WireError{trouble};
  }
  return Message(std::move(message));
}

template <size_t... kIndex>
Decoded<Message> decode_index(size_t index, Bytes payload, std::index_sequence<kIndex...>) {
  Decoded<Message> result = WireError{"message of unknown type"};
  (void)((index == kIndex &&
          (result = decode_as<std::variant_alternative_t<kIndex, Message>>(payload), true)) ||
         ...);
  return result;
}

}  // namespace

MessageType type_of(const Message& message) {
  return static_cast<MessageType>(message.index() + 1);
}

Decoded<std::vector<std::byte>> encode(const Message& message) {
  const Trouble trouble = std::visit([](const auto& m) { return check(m); }, message);
  if (!trouble.empty()) {
    return WireError{trouble};
  }
  Writer writer;
  writer.raw(encode_header({}));
  std::visit([&writer](const auto& m) { put(writer, m); }, message);
  const size_t payload_bytes = writer.size() - kHeaderBytes;
  if (payload_bytes > kMaxPayloadBytes) {
    return WireError{"message longer than kMaxPayloadBytes"};
  }
  std::vector<std::byte> frame = writer.take();
  std::ranges::copy(encode_header({static_cast<uint32_t>(payload_bytes), type_of(message)}),
                    frame.begin());
  return frame;
}

Decoded<Message> decode(MessageType type, std::span<const std::byte> payload) {
  if (payload.size() > kMaxPayloadBytes) {
    return WireError{"message longer than kMaxPayloadBytes"};
  }
  const size_t index = static_cast<size_t>(type) - 1;  // type 0 wraps to no alternative
  return decode_index(index, payload, std::make_index_sequence<std::variant_size_v<Message>>());
}

}  // namespace ramet::wire
