// Encoder and Decoder: saved state as little-endian bytes, read back with every bound checked.
//
// Thread rule: one thread per object.
// Invariant: a Decoder never reads outside its span and never allocates more than the span
// justifies; after its first error it returns zeros and status() says where and why, so a caller
// may read a whole struct and check once.
#ifndef RAMET_VMM_STATE_CODEC_H_
#define RAMET_VMM_STATE_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

class Encoder {
 public:
  template <typename T>
  void number(T value) {
    static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i)));
    }
  }
  // A count of 4 bytes, then the bytes.
  void blob(std::span<const std::byte> bytes);
  void text(std::string_view text) { blob(std::as_bytes(std::span(text))); }
  // The bytes as they are, without a count.
  void raw(std::span<const std::byte> bytes);

  std::vector<std::byte> take() { return std::move(bytes_); }
  size_t size() const { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

class Decoder {
 public:
  // `what` names the input in messages: "section vcpu0".
  Decoder(std::span<const std::byte> input, std::string_view what) : input_(input), what_(what) {}

  template <typename T>
  T number() {
    static_assert(std::is_integral_v<T>);
    uint64_t value = 0;
    const auto bytes = raw(sizeof(T));
    for (size_t i = 0; i < bytes.size(); ++i) {
      value |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
    }
    return static_cast<T>(value);
  }
  // A number that must lie in [low, high].
  template <typename T>
  T bounded(T low, T high, std::string_view name) {
    const T value = number<T>();
    if (ok() && (value < low || value > high)) {
      fail_bounds(static_cast<uint64_t>(value), static_cast<uint64_t>(low),
                  static_cast<uint64_t>(high), name);
      return low;
    }
    return value;
  }
  bool boolean(std::string_view name) { return bounded<uint8_t>(0, 1, name) != 0; }
  // What Encoder::blob wrote, at most `limit` bytes of it. A view into the input.
  std::span<const std::byte> blob(size_t limit, std::string_view name);
  std::string text(size_t limit, std::string_view name);
  // Exactly `size` bytes; empty after an error.
  std::span<const std::byte> raw(size_t size);

  void fail(Status status);
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  size_t remaining() const { return input_.size() - position_; }
  // The first error, or DataLoss when bytes are left over.
  Status finish();

 private:
  void fail_bounds(uint64_t value, uint64_t low, uint64_t high, std::string_view name);

  std::span<const std::byte> input_;
  const std::string what_;
  size_t position_ = 0;
  Status status_;
};

}  // namespace ramet

#endif  // RAMET_VMM_STATE_CODEC_H_
