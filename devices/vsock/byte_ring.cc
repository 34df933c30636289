#include "devices/vsock/byte_ring.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ramet::vsock {
namespace {

constexpr size_t kSmallestAllocation = 1024;

void copy(std::span<std::byte> into, std::span<const std::byte> from) {
  if (!from.empty()) {
    std::memcpy(into.data(), from.data(), from.size());
  }
}

}  // namespace

std::array<std::span<std::byte>, 2> ByteRing::prepare(size_t bytes) {
  reserve(size_ + bytes);
  if (bytes == 0) {
    return {};
  }
  const size_t begin = (start_ + size_) & (capacity_ - 1);
  const size_t first = std::min(bytes, capacity_ - begin);
  return {std::span(data_.get() + begin, first), std::span(data_.get(), bytes - first)};
}

std::array<std::span<const std::byte>, 2> ByteRing::front(size_t bytes) const {
  if (bytes == 0) {
    return {};
  }
  const size_t first = std::min(bytes, capacity_ - start_);
  return {std::span<const std::byte>(data_.get() + start_, first),
          std::span<const std::byte>(data_.get(), bytes - first)};
}

void ByteRing::consume(size_t bytes) {
  size_ -= bytes;
  // An empty ring starts over, so that small messages stay in one part.
  start_ = size_ == 0 ? 0 : (start_ + bytes) & (capacity_ - 1);
}

size_t ByteRing::push(std::span<const std::byte> from) {
  const size_t bytes = std::min(from.size(), room());
  const auto parts = prepare(bytes);
  copy(parts[0], from.first(parts[0].size()));
  copy(parts[1], from.subspan(parts[0].size(), parts[1].size()));
  commit(bytes);
  return bytes;
}

size_t ByteRing::pull(std::span<std::byte> into) {
  const size_t bytes = std::min(into.size(), size_);
  const auto parts = front(bytes);
  copy(into, parts[0]);
  copy(into.subspan(parts[0].size()), parts[1]);
  consume(bytes);
  return bytes;
}

void ByteRing::clear() {
  data_.reset();
  capacity_ = start_ = size_ = 0;
}

void ByteRing::reserve(size_t bytes) {
  if (bytes <= capacity_) {
    return;
  }
  const size_t capacity = std::min(limit_, std::max(kSmallestAllocation, std::bit_ceil(bytes)));
  // Not value-initialized: the bytes are written before they are read.
  std::unique_ptr<std::byte[]> data(new std::byte[capacity]);
  const auto parts = front(size_);
  copy(std::span(data.get(), size_), parts[0]);
  copy(std::span(data.get(), size_).subspan(parts[0].size()), parts[1]);
  data_ = std::move(data);
  capacity_ = capacity;
  start_ = 0;
}

}  // namespace ramet::vsock
