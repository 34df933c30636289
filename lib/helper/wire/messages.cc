#include "lib/helper/wire/messages.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <absl/strings/str_format.h>

#include "lib/instance/reasons.h"
#include "vmm/base/socket.h"
#include "vmm/state/codec.h"

namespace ramet::helper {
namespace {

constexpr size_t kMaxReason = 32;
constexpr size_t kMaxLimit = 64;
constexpr size_t kMaxBuild = 64;
constexpr size_t kGenerationBytes = std::tuple_size_v<GenerationId>;

// The place of a type in its variant is its number on the wire.
template <typename Variant, typename T, size_t index = 0>
constexpr uint8_t number_of() {
  if constexpr (std::is_same_v<std::variant_alternative_t<index, Variant>, T>) {
    return index;
  } else {
    return number_of<Variant, T, index + 1>();
  }
}

void encode_status(const Status& status, Encoder* out) {
  out->number(static_cast<uint8_t>(status.code()));
  const std::string_view message(status.message().data(), status.message().size());
  out->text(message.substr(0, kMaxText));
  out->text(reason_of(status));
  const auto limit = status.GetPayload(kLimitUrl);
  out->text(limit ? std::string(*limit) : std::string());
}

Status decode_status(Decoder* in) {
  const auto code = in->bounded<uint8_t>(
      0, static_cast<uint8_t>(absl::StatusCode::kUnauthenticated), "status code");
  const std::string message = in->text(kMaxText, "message");
  const std::string reason = in->text(kMaxReason, "reason");
  const std::string limit = in->text(kMaxLimit, "limit");
  Status status(static_cast<absl::StatusCode>(code), message);
  if (!limit.empty()) {
    status.SetPayload(kLimitUrl, absl::Cord(limit));
  }
  return reason.empty() ? status : with_reason(status, reason);
}

// What an error is decoded to has to be one.
Status decode_error(Decoder* in) {
  Status status = decode_status(in);
  return status.ok() ? absl::DataLossError("a helper process gave no reason") : status;
}

// In the order of the wire.
template <typename Metrics>
auto numbers(Metrics& metrics) {
  return std::array{
      &metrics.vcpu_exits,         &metrics.interrupts,      &metrics.cpu_ns,
      &metrics.throttled,          &metrics.throttled_ns,    &metrics.vsock_bytes_in,
      &metrics.vsock_bytes_out,    &metrics.disk_bytes_read, &metrics.disk_bytes_written,
      &metrics.private_disk_bytes, &metrics.first_exit_ns};
}

void encode_metrics(const InstanceMetrics& metrics, Encoder* out) {
  for (const uint64_t* number : numbers(metrics)) {
    out->number(*number);
  }
}

InstanceMetrics decode_metrics(Decoder* in) {
  InstanceMetrics metrics;
  for (uint64_t* number : numbers(metrics)) {
    *number = in->number<uint64_t>();
  }
  return metrics;
}

// In the order of the wire.
template <typename Use>
auto memory_numbers(Use& use) {
  return std::array{&use.private_bytes, &use.swapped_bytes, &use.shared_bytes,
                    &use.page_table_bytes};
}

void encode_limits(const InstanceLimits& limits, Encoder* out) {
  for (const uint64_t number :
       {limits.wall_ns, limits.cpu_ns, limits.private_bytes, limits.disk_bytes}) {
    out->number(number);
  }
  out->number(static_cast<uint8_t>(limits.disk_full_ends));
  out->number(limits.connections);
  for (const RateLimit& rate :
       {limits.rates.exits, limits.rates.interrupts, limits.rates.cpu, limits.disk_rate}) {
    out->number(rate.per_second);
    out->number(static_cast<uint8_t>(rate.ends));
  }
}

InstanceLimits decode_limits(Decoder* in) {
  InstanceLimits limits;
  for (uint64_t* number :
       {&limits.wall_ns, &limits.cpu_ns, &limits.private_bytes, &limits.disk_bytes}) {
    *number = in->number<uint64_t>();
  }
  limits.disk_full_ends = in->boolean("a full disk ends");
  limits.connections = in->number<uint32_t>();
  for (RateLimit* rate :
       {&limits.rates.exits, &limits.rates.interrupts, &limits.rates.cpu, &limits.disk_rate}) {
    rate->per_second = in->number<uint64_t>();
    rate->ends = in->boolean("a rate ends");
  }
  return limits;
}

struct Body {
  Encoder* out;

  void operator()(const Files&) const {}
  void operator()(const Resume&) const {}
  void operator()(const Pause&) const {}
  void operator()(const AskMetrics&) const {}
  void operator()(const AskMemory&) const {}
  void operator()(const NewMachine&) const {}
  void operator()(const Relieve&) const {}
  void operator()(const KeepShells& keep) const {
    out->number(keep.per_template);
    out->number(keep.max);
  }
  void operator()(const TakeSnapshot& take) const {
    out->number(take.expected_bytes);
    out->number(take.known_layers);
  }
  void operator()(const Learn& learn) const { out->number(learn.template_id); }
  void operator()(const Forget& forget) const { out->number(forget.template_id); }
  void operator()(const Fork& fork) const {
    out->number(fork.template_id);
    out->raw(fork.generation);
    out->number(fork.host_port_offset);
    out->number(static_cast<uint8_t>(fork.wants_console));
    out->number(fork.first_port);
    for (const bool flag : {fork.prefetch, fork.take_shell, fork.refill_shells}) {
      out->number(static_cast<uint8_t>(flag));
    }
    encode_limits(fork.limits, out);
  }
  void operator()(const Connect& connect) const { out->number(connect.guest_port); }
  void operator()(const Hello& hello) const {
    out->text(hello.build);
    for (const int32_t error : hello.enclosure.errors) {
      out->number(static_cast<uint16_t>(error));
    }
  }
  void operator()(const Done& done) const { encode_status(done.status, out); }
  void operator()(const InstanceMetrics& metrics) const { encode_metrics(metrics, out); }
  void operator()(const MemoryUse& use) const {
    for (const uint64_t* number : memory_numbers(use)) {
      out->number(*number);
    }
  }
  void operator()(const Forked& forked) const { out->number(forked.ready_ns); }
  void operator()(const SnapshotTaken& taken) const {
    out->number(taken.result_bytes);
    out->number(taken.pause_ns);
  }
  void operator()(const RefusedCalls& refused) const { out->number(refused.count); }
  void operator()(const ConsoleBytes& console) const { out->text(console.text); }
  void operator()(const LogLine& line) const {
    out->number(static_cast<uint8_t>(line.level));
    out->text(std::string_view(line.text).substr(0, kMaxLogLine));
  }
  void operator()(const Ended& ended) const {
    encode_status(ended.why, out);
    encode_metrics(ended.metrics, out);
  }
};

template <typename Variant>
std::vector<std::byte> encode_message(const Variant& message) {
  Encoder out;
  out.number(static_cast<uint8_t>(message.index()));
  std::visit(Body{&out}, message);
  return out.take();
}

Fork decode_fork(Decoder* in) {
  Fork fork;
  fork.template_id = in->number<uint64_t>();
  const auto generation = in->raw(kGenerationBytes);
  std::ranges::copy(generation, fork.generation.begin());
  fork.host_port_offset = in->number<uint32_t>();
  fork.wants_console = in->boolean("console");
  fork.first_port = in->number<uint32_t>();
  for (bool* flag : {&fork.prefetch, &fork.take_shell, &fork.refill_shells}) {
    *flag = in->boolean("prefetch, or a shell");
  }
  fork.limits = decode_limits(in);
  return fork;
}

Hello decode_hello(Decoder* in) {
  Hello hello;
  hello.build = in->text(kMaxBuild, "build");
  for (int32_t& error : hello.enclosure.errors) {
    error = in->number<uint16_t>();
  }
  return hello;
}

Status unknown(const char* what, uint8_t kind) {
  return absl::DataLossError(absl::StrFormat("%s of unknown kind %d", what, kind));
}

}  // namespace

std::vector<std::byte> encode(const Request& request) { return encode_message(request); }
std::vector<std::byte> encode(const Reply& reply) { return encode_message(reply); }
std::vector<std::byte> encode(const Event& event) { return encode_message(event); }

bool wants_reply(const Request& request) {
  return !std::holds_alternative<NewMachine>(request) && !std::holds_alternative<Forget>(request) &&
         !std::holds_alternative<KeepShells>(request) && !std::holds_alternative<Relieve>(request);
}

StatusOr<NumberedRequest> receive_request(int control, std::span<std::byte> room) {
  RAMET_ASSIGN_OR_RETURN(auto got,
                         receive_message(control, room, Blocking::kDontWait, kMaxMessageFiles));
  Sequence number = 0;
  if (got.bytes < sizeof number) {
    return absl::CancelledError("the embedder has gone");
  }
  std::memcpy(&number, room.data(), sizeof number);
  return NumberedRequest{
      .number = number,
      .request = decode_request(room.subspan(sizeof number, got.bytes - sizeof number)),
      .files = std::move(got.files)};
}

sys::Result send_reply(int control, Sequence number, const Reply& reply) {
  return send_message(control, std::as_bytes(std::span<const Sequence, 1>(&number, 1)),
                      encode(reply), Blocking::kWait);
}

StatusOr<Request> decode_request(std::span<const std::byte> bytes) {
  Decoder in(bytes, "request to a helper process");
  Request request;
  const auto kind = in.number<uint8_t>();
  switch (kind) {
    case number_of<Request, Files>():
      break;
    case number_of<Request, Fork>():
      request = decode_fork(&in);
      break;
    case number_of<Request, Connect>():
      request = Connect{in.number<uint32_t>()};
      break;
    case number_of<Request, Resume>():
      request = Resume{};
      break;
    case number_of<Request, Pause>():
      request = Pause{};
      break;
    case number_of<Request, AskMetrics>():
      request = AskMetrics{};
      break;
    case number_of<Request, AskMemory>():
      request = AskMemory{};
      break;
    case number_of<Request, NewMachine>():
      request = NewMachine{};
      break;
    case number_of<Request, Learn>():
      request = Learn{in.number<uint64_t>()};
      break;
    case number_of<Request, Forget>():
      request = Forget{in.number<uint64_t>()};
      break;
    case number_of<Request, TakeSnapshot>(): {
      TakeSnapshot take;
      take.expected_bytes = in.number<uint64_t>();
      take.known_layers = in.number<uint32_t>();
      request = take;
      break;
    }
    case number_of<Request, KeepShells>(): {
      KeepShells keep;
      keep.per_template = in.number<uint32_t>();
      keep.max = in.number<uint32_t>();
      request = keep;
      break;
    }
    case number_of<Request, Relieve>():
      request = Relieve{};
      break;
    default:
      return unknown("a request", kind);
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  return request;
}

StatusOr<Reply> decode_reply(std::span<const std::byte> bytes) {
  Decoder in(bytes, "reply of a helper process");
  Reply reply;
  const auto kind = in.number<uint8_t>();
  switch (kind) {
    case number_of<Reply, Hello>():
      reply = decode_hello(&in);
      break;
    case number_of<Reply, Done>():
      reply = Done{decode_status(&in)};
      break;
    case number_of<Reply, InstanceMetrics>():
      reply = decode_metrics(&in);
      break;
    case number_of<Reply, MemoryUse>(): {
      MemoryUse use;
      for (uint64_t* number : memory_numbers(use)) {
        *number = in.number<uint64_t>();
      }
      if (use.swapped_bytes > use.private_bytes) {
        return absl::DataLossError("reply of a helper process: more is swapped out than there is");
      }
      reply = use;
      break;
    }
    case number_of<Reply, Forked>():
      reply = Forked{in.number<uint64_t>()};
      break;
    case number_of<Reply, SnapshotTaken>(): {
      SnapshotTaken taken;
      taken.result_bytes = in.number<uint64_t>();
      taken.pause_ns = in.number<uint64_t>();
      reply = taken;
      break;
    }
    default:
      return unknown("a reply", kind);
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  return reply;
}

StatusOr<Event> decode_event(std::span<const std::byte> bytes) {
  Decoder in(bytes, "event of a helper process");
  Event event;
  const auto kind = in.number<uint8_t>();
  switch (kind) {
    case number_of<Event, ConsoleBytes>():
      event = ConsoleBytes{in.text(kMaxMessage, "console")};
      break;
    case number_of<Event, Ended>(): {
      Ended ended;
      ended.why = decode_error(&in);
      ended.metrics = decode_metrics(&in);
      event = std::move(ended);
      break;
    }
    case number_of<Event, LogLine>(): {
      const auto level = in.bounded<uint8_t>(static_cast<uint8_t>(LogLevel::kDebug),
                                             static_cast<uint8_t>(LogLevel::kError), "level");
      event = LogLine{static_cast<LogLevel>(level), in.text(kMaxLogLine, "line")};
      break;
    }
    case number_of<Event, RefusedCalls>():
      event = RefusedCalls{in.number<uint64_t>()};
      break;
    default:
      return unknown("an event", kind);
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  return event;
}

std::vector<std::byte> encode_stream_error(const Status& status) {
  Encoder out;
  encode_status(status, &out);
  return out.take();
}

Status decode_stream_error(std::span<const std::byte> bytes) {
  Decoder in(bytes, "error of a conversation");
  Status status = decode_error(&in);
  RAMET_RETURN_IF_ERROR(in.finish());
  return status;
}

}  // namespace ramet::helper
