#include "lib/agent/wire.h"

#include <algorithm>

namespace ramet::wire {
namespace {

uint32_t load_u32(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= std::to_integer<uint32_t>(bytes[i]) << (8 * i);
  }
  return value;
}

}  // namespace

std::string_view name_of(MessageType type) {
  switch (type) {
    case MessageType::kHello:
      return "Hello";
    case MessageType::kExecRequest:
      return "ExecRequest";
    case MessageType::kStdin:
      return "Stdin";
    case MessageType::kStdinEof:
      return "StdinEof";
    case MessageType::kStdinCredit:
      return "StdinCredit";
    case MessageType::kStdout:
      return "Stdout";
    case MessageType::kStderr:
      return "Stderr";
    case MessageType::kExit:
      return "Exit";
    case MessageType::kSignal:
      return "Signal";
    case MessageType::kReseed:
      return "Reseed";
    case MessageType::kReseedAck:
      return "ReseedAck";
    case MessageType::kFreeze:
      return "Freeze";
    case MessageType::kFreezeReply:
      return "FreezeReply";
    case MessageType::kPing:
      return "Ping";
    case MessageType::kPong:
      return "Pong";
    case MessageType::kPoweroff:
      return "Poweroff";
    case MessageType::kError:
      return "Error";
    case MessageType::kSuspend:
      return "Suspend";
    case MessageType::kThaw:
      return "Thaw";
    case MessageType::kThawed:
      return "Thawed";
  }
  return "unknown";
}

std::array<std::byte, kHeaderBytes> encode_header(const Header& header) {
  std::array<std::byte, kHeaderBytes> bytes = {};
  for (size_t i = 0; i < 4; ++i) {
    bytes[i] = static_cast<std::byte>(header.payload_bytes >> (8 * i));
  }
  bytes[4] = static_cast<std::byte>(header.type);
  return bytes;
}

Decoded<Header> decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  Header header;
  header.payload_bytes = load_u32(bytes);
  if (header.payload_bytes > kMaxPayloadBytes) {
    return WireError{"frame longer than kMaxPayloadBytes"};
  }
  header.type = static_cast<MessageType>(bytes[4]);
  if (name_of(header.type) == "unknown") {
    return WireError{"frame of unknown type"};
  }
  if (bytes[5] != std::byte{0}) {
    return WireError{"frame flags are not 0"};
  }
  if (bytes[6] != std::byte{0} || bytes[7] != std::byte{0}) {
    return WireError{"frame's reserved field is not 0"};
  }
  return header;
}

size_t FrameReader::feed(std::span<const std::byte> input) {
  size_t used = 0;
  while (used < input.size() && !complete_ && !error_) {
    const bool in_header = buffer_.size() < kHeaderBytes;
    const size_t target = in_header ? kHeaderBytes : kHeaderBytes + header_.payload_bytes;
    const size_t take = std::min(target - buffer_.size(), input.size() - used);
    const auto part = input.subspan(used, take);
    buffer_.insert(buffer_.end(), part.begin(), part.end());
    used += take;
    if (in_header && buffer_.size() == kHeaderBytes) {
      const auto header = decode_header(std::span<const std::byte, kHeaderBytes>(buffer_));
      if (!header.ok()) {
        error_ = WireError{header.error()};
        break;
      }
      header_ = header.value();
    }
    complete_ =
        buffer_.size() >= kHeaderBytes && buffer_.size() == kHeaderBytes + header_.payload_bytes;
  }
  return used;
}

std::span<const std::byte> FrameReader::payload() const {
  return std::span<const std::byte>(buffer_).subspan(kHeaderBytes);
}

void FrameReader::next() {
  if (complete_) {
    buffer_.clear();
    header_ = {};
    complete_ = false;
  }
}

}  // namespace ramet::wire
