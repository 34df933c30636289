// ByteRing: a bounded FIFO of bytes that allocates only as it is filled.
//
// Thread rule: none of its own; guarded by the owner.
// Invariant: size() <= limit(), and the memory behind it is at most twice the largest size() it
// had, never more than the limit.
#ifndef RAMET_DEVICES_VSOCK_BYTE_RING_H_
#define RAMET_DEVICES_VSOCK_BYTE_RING_H_

#include <array>
#include <cstddef>
#include <memory>
#include <span>

namespace ramet::vsock {

class ByteRing {
 public:
  // `limit` is a power of two.
  explicit ByteRing(size_t limit) : limit_(limit) {}

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  size_t limit() const { return limit_; }
  size_t room() const { return limit_ - size_; }
  size_t allocated() const { return capacity_; }

  // Space for `bytes` <= room() more, in up to two parts, to be filled before commit(bytes).
  std::array<std::span<std::byte>, 2> prepare(size_t bytes);
  void commit(size_t bytes) { size_ += bytes; }
  // The oldest `bytes` <= size(), in up to two parts, valid until the ring changes.
  std::array<std::span<const std::byte>, 2> front(size_t bytes) const;
  void consume(size_t bytes);

  // Both move as much as fits and say how much.
  size_t push(std::span<const std::byte> from);
  size_t pull(std::span<std::byte> into);
  // Drops everything and frees the memory.
  void clear();

 private:
  void reserve(size_t bytes);

  const size_t limit_;
  size_t capacity_ = 0;
  size_t start_ = 0;
  size_t size_ = 0;
  std::unique_ptr<std::byte[]> data_;
};

}  // namespace ramet::vsock

#endif  // RAMET_DEVICES_VSOCK_BYTE_RING_H_
