#include "vmm/state/codec.h"

#include <absl/strings/str_format.h>

namespace ramet {

void Encoder::blob(std::span<const std::byte> bytes) {
  number(static_cast<uint32_t>(bytes.size()));
  raw(bytes);
}

void Encoder::raw(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

std::span<const std::byte> Decoder::raw(size_t size) {
  if (!ok()) {
    return {};
  }
  if (size > remaining()) {
    fail(absl::DataLossError(absl::StrFormat("%s: %d bytes wanted at offset %d, %d are left", what_,
                                             size, position_, remaining())));
    return {};
  }
  const auto bytes = input_.subspan(position_, size);
  position_ += size;
  return bytes;
}

std::span<const std::byte> Decoder::blob(size_t limit, std::string_view name) {
  const auto size = bounded<uint32_t>(0, static_cast<uint32_t>(limit), name);
  return raw(size);
}

std::string Decoder::text(size_t limit, std::string_view name) {
  const auto bytes = blob(limit, name);
  std::string result;
  for (const std::byte byte : bytes) {
    result.push_back(static_cast<char>(byte));
  }
  return result;
}

void Decoder::fail(Status status) {
  if (status_.ok()) {
    status_ = std::move(status);
  }
}

void Decoder::fail_bounds(uint64_t value, uint64_t low, uint64_t high, std::string_view name) {
  fail(absl::DataLossError(absl::StrFormat("%s: %s is %d, must be %d to %d", what_,
                                           std::string(name), value, low, high)));
}

Status Decoder::finish() {
  if (ok() && remaining() != 0) {
    fail(absl::DataLossError(
        absl::StrFormat("%s: %d bytes left over after its end", what_, remaining())));
  }
  return status_;
}

}  // namespace ramet
