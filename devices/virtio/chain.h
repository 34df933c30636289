// Chain: one request of the driver, its descriptors copied out of guest memory once and checked.
// Reader and Writer go through its device-readable and its device-writable bytes as streams.
//
// Thread rule: one thread per object; a Chain may be moved to another thread. The guest changes the
// bytes behind a chain at any moment: read each byte once, then trust the copy only.
// Invariant: every slice is RAM, no slice is empty, all readable ones come before the writable ones
// in the request, there are at most kMaxChainDescriptors of them and at most kMaxChainBytes in all.
#ifndef RAMET_DEVICES_VIRTIO_CHAIN_H_
#define RAMET_DEVICES_VIRTIO_CHAIN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include <absl/container/inlined_vector.h>

#include "vmm/base/status.h"
#include "vmm/memory/guest_memory.h"

namespace ramet::virtio {

// Virtio 1.2, 2.7.5.3.1 forbids chains longer than the queue, indirect ones included; Ramet's
// queues have at most kMaxQueueSize (256) entries.
inline constexpr size_t kMaxChainDescriptors = 256;
// Our own limit, above what any device here asks for (block: 126 segments of 64 KiB).
inline constexpr uint64_t kMaxChainBytes = 16 << 20;

using Slices = absl::InlinedVector<GuestSlice, 6>;

// A position in a list of slices. What Reader and Writer share.
class SliceCursor {
 public:
  SliceCursor(const GuestMemory* memory, Slices slices);

  // Bytes from the position to the end.
  uint64_t remaining() const { return remaining_; }
  const GuestMemory& memory() const { return *memory_; }
  // The next min(bytes, remaining()) bytes as slices, for GuestMemory::read_from_file and
  // write_to_file; the position does not move.
  Slices peek(uint64_t bytes) const;
  // Moves the position on by min(bytes, remaining()).
  void skip(uint64_t bytes);

 protected:
  const GuestMemory* memory_;
  Slices slices_;
  size_t index_ = 0;     // of the slice the position lies in
  uint64_t inside_ = 0;  // bytes of that slice before the position
  uint64_t remaining_ = 0;
};

class Reader : public SliceCursor {
 public:
  using SliceCursor::SliceCursor;

  // Copies exactly into.size() bytes out; OutOfRange, and nothing consumed, when fewer remain.
  Status read(std::span<std::byte> into);
  template <typename T>
  StatusOr<T> read_object() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    RAMET_RETURN_IF_ERROR(read(std::as_writable_bytes(std::span<T, 1>(&value, 1))));
    return value;
  }
  // Splits off the next `bytes` bytes as a Reader of their own and moves past them.
  StatusOr<Reader> take(uint64_t bytes);
};

class Writer : public SliceCursor {
 public:
  using SliceCursor::SliceCursor;

  // Copies all of `from` in; OutOfRange, and nothing written, when fewer bytes remain.
  Status write(std::span<const std::byte> from);
  template <typename T>
  Status write_object(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    return write(std::as_bytes(std::span<const T, 1>(&value, 1)));
  }
  Status fill_zero(uint64_t bytes);
  StatusOr<Writer> take(uint64_t bytes);
};

class Chain {
 public:
  // Of the descriptor that began it; goes back to the driver with Queue::push_used().
  uint16_t head() const { return head_; }
  uint64_t readable_bytes() const { return readable_bytes_; }
  uint64_t writable_bytes() const { return writable_bytes_; }
  const Slices& readable() const { return readable_; }
  const Slices& writable() const { return writable_; }

  // New streams from the start. They copy the (short) slice lists, so they may outlive the chain.
  Reader reader() const { return Reader(memory_, readable_); }
  Writer writer() const { return Writer(memory_, writable_); }

 private:
  friend class ChainWalker;
  Chain(const GuestMemory* memory, uint16_t head) : memory_(memory), head_(head) {}

  const GuestMemory* memory_;
  uint16_t head_;
  uint64_t readable_bytes_ = 0;
  uint64_t writable_bytes_ = 0;
  Slices readable_;
  Slices writable_;
};

// Where the chain begins and what the driver negotiated for it.
struct ChainSource {
  const GuestMemory* memory = nullptr;
  GuestAddr table;        // the descriptor table
  uint16_t size = 0;      // its entries
  bool indirect = false;  // VIRTIO_F_INDIRECT_DESC negotiated
};

// Copies the chain that begins at `head`. InvalidArgument or OutOfRange, with what was found, for a
// loop, an index outside the table, a buffer outside RAM, a readable buffer after a writable one
// (2.7.4.2), a nested or malformed indirect table (2.7.5.3), or one of the limits above.
StatusOr<Chain> walk_chain(const ChainSource& source, uint16_t head);

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_CHAIN_H_
