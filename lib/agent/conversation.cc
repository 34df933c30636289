#include "lib/agent/conversation.h"

#include <algorithm>
#include <utility>

#include <absl/strings/escaping.h>
#include <absl/strings/str_format.h>

#include "vmm/base/clock.h"

namespace ramet {
namespace {

constexpr size_t kReadBytes = 16 * 1024;

}  // namespace

std::string printable(std::string_view text) {
  return absl::CHexEscape(absl::string_view(text.data(), text.size()));
}

Status status_of(const wire::Error& error) {
  const std::string text = absl::StrFormat("the agent refused: %s (code %d)", printable(error.text),
                                           static_cast<int>(error.code));
  switch (error.code) {
    case wire::ErrorCode::kVersion:
    case wire::ErrorCode::kNotReseeded:
      return absl::FailedPreconditionError(text);
    case wire::ErrorCode::kBusy:
      return absl::ResourceExhaustedError(text);
    case wire::ErrorCode::kProtocol:
    case wire::ErrorCode::kReseedFailed:
    case wire::ErrorCode::kInternal:
      break;
  }
  return absl::InternalError(text);
}

Status out_of_turn(const wire::Message& message, std::string_view expected) {
  if (const auto* error = std::get_if<wire::Error>(&message)) {
    return status_of(*error);
  }
  return absl::DataLossError(absl::StrFormat("the agent sent %s where %s was expected",
                                             std::string(wire::name_of(wire::type_of(message))),
                                             std::string(expected)));
}

Status Conversation::queue(const wire::Message& message) {
  auto frame = wire::encode(message);
  if (!frame.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s for the agent: %s", std::string(wire::name_of(wire::type_of(message))),
                        std::string(frame.error())));
  }
  if (!std::exchange(hello_queued_, true)) {
    const auto hello = wire::encode(wire::Hello{});
    outbox_.insert(outbox_.end(), hello.value().begin(), hello.value().end());
  }
  outbox_.insert(outbox_.end(), frame.value().begin(), frame.value().end());
  return Status();
}

StatusOr<bool> Conversation::write_some() {
  bool moved = false;
  while (has_queued()) {
    const auto rest = std::span<const std::byte>(outbox_).subspan(outbox_used_);
    RAMET_ASSIGN_OR_RETURN(const IoResult result, stream_->try_write(rest));
    if (result.state != IoResult::State::kMoved) {
      return moved;
    }
    outbox_used_ += result.bytes;
    moved = true;
  }
  outbox_.clear();
  outbox_used_ = 0;
  return moved;
}

StatusOr<std::optional<wire::Message>> Conversation::read_some() {
  RAMET_ASSIGN_OR_RETURN(auto message, cut_message());
  if (message.has_value()) {
    return message;
  }
  if (inbox_ == nullptr) {
    inbox_ = std::make_unique_for_overwrite<std::byte[]>(kReadBytes);
  }
  const std::span<std::byte> inbox(inbox_.get(), kReadBytes);
  RAMET_ASSIGN_OR_RETURN(const IoResult result, stream_->try_read(inbox));
  switch (result.state) {
    case IoResult::State::kMoved:
      inbox_rest_ = inbox.first(std::min(result.bytes, inbox.size()));
      return cut_message();
    case IoResult::State::kEnd:
      return absl::UnavailableError(reader_.empty() ? "the agent closed the connection"
                                                    : "the agent's connection ended in a frame");
    case IoResult::State::kWouldBlock:
      break;
  }
  return std::optional<wire::Message>();
}

StatusOr<std::optional<wire::Message>> Conversation::cut_message() {
  while (!inbox_rest_.empty()) {
    inbox_rest_ = inbox_rest_.subspan(reader_.feed(inbox_rest_));
    if (reader_.error()) {
      return absl::DataLossError(
          absl::StrFormat("the agent sent no frame: %s", std::string(reader_.error()->what)));
    }
    if (!reader_.complete()) {
      continue;
    }
    auto message = reader_.message();
    if (!message.ok()) {
      return absl::DataLossError(absl::StrFormat(
          "the agent sent a bad %s of %d bytes: %s", std::string(wire::name_of(reader_.type())),
          reader_.payload().size(), std::string(message.error())));
    }
    reader_.next();
    if (agent_.has_value()) {
      return std::optional<wire::Message>(message.take());
    }
    RAMET_RETURN_IF_ERROR(accept_hello(message.value()));
  }
  return std::optional<wire::Message>();
}

Status Conversation::accept_hello(const wire::Message& message) {
  const auto* hello = std::get_if<wire::Hello>(&message);
  if (hello == nullptr) {
    return out_of_turn(message, "Hello");
  }
  if (hello->version != wire::kProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the agent speaks protocol version %d, this library %d", hello->version,
                        wire::kProtocolVersion));
  }
  agent_ = AgentInfo{printable(hello->kernel_release), printable(hello->build_id)};
  return Status();
}

void Conversation::rest() {
  if (inbox_rest_.empty()) {
    inbox_.reset();
  }
}

Status Conversation::wait(uint64_t deadline_ns) {
  // Asked here too, since a guest that dribbles bytes keeps the stream readable for ever.
  if (deadline_ns != 0 && monotonic_ns() >= deadline_ns) {
    return absl::DeadlineExceededError("the agent did not answer in time");
  }
  return stream_->wait(has_queued(), deadline_ns).status();
}

Status Conversation::flush(uint64_t deadline_ns) {
  while (has_queued()) {
    RAMET_ASSIGN_OR_RETURN(const bool moved, write_some());
    if (!moved) {
      RAMET_RETURN_IF_ERROR(wait(deadline_ns));
    }
  }
  return Status();
}

StatusOr<wire::Message> Conversation::receive(uint64_t deadline_ns) {
  while (true) {
    RAMET_ASSIGN_OR_RETURN(auto message, read_some());
    if (message.has_value()) {
      return *std::move(message);
    }
    RAMET_RETURN_IF_ERROR(wait(deadline_ns));
  }
}

StatusOr<AgentInfo> Conversation::receive_hello(uint64_t deadline_ns) {
  while (!agent_.has_value()) {
    RAMET_ASSIGN_OR_RETURN(auto message, read_some());
    if (message.has_value()) {
      return out_of_turn(*message, "nothing");
    }
    if (!agent_.has_value()) {
      RAMET_RETURN_IF_ERROR(wait(deadline_ns));
    }
  }
  return *agent_;
}

}  // namespace ramet
