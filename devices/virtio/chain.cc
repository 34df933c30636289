#include "devices/virtio/chain.h"

#include <algorithm>

#include <absl/strings/str_format.h>

#include "devices/virtio/abi.h"

namespace ramet::virtio {

SliceCursor::SliceCursor(const GuestMemory* memory, Slices slices)
    : memory_(memory), slices_(std::move(slices)) {
  for (const GuestSlice& slice : slices_) {
    remaining_ += slice.size;
  }
}

Slices SliceCursor::peek(uint64_t bytes) const {
  Slices result;
  uint64_t wanted = std::min(bytes, remaining_);
  uint64_t inside = inside_;
  for (size_t i = index_; wanted > 0; ++i) {
    const uint64_t part = std::min(wanted, slices_[i].size - inside);
    result.push_back(GuestSlice{{slices_[i].start.value + inside}, part});
    wanted -= part;
    inside = 0;
  }
  return result;
}

void SliceCursor::skip(uint64_t bytes) {
  uint64_t left = std::min(bytes, remaining_);
  remaining_ -= left;
  while (left > 0) {
    const uint64_t part = std::min(left, slices_[index_].size - inside_);
    inside_ += part;
    left -= part;
    if (inside_ == slices_[index_].size) {
      ++index_;
      inside_ = 0;
    }
  }
}

namespace {

Status too_short(const char* what, uint64_t wanted, uint64_t remaining) {
  return absl::OutOfRangeError(
      absl::StrFormat("%s %d bytes of a chain, %d are left", what, wanted, remaining));
}

}  // namespace

Status Reader::read(std::span<std::byte> into) {
  if (into.size() > remaining()) {
    return too_short("read", into.size(), remaining());
  }
  size_t done = 0;
  for (const GuestSlice& slice : peek(into.size())) {
    RAMET_RETURN_IF_ERROR(memory_->read(slice.start, into.subspan(done, slice.size)));
    done += slice.size;
  }
  skip(done);
  return Status();
}

StatusOr<Reader> Reader::take(uint64_t bytes) {
  if (bytes > remaining()) {
    return too_short("take", bytes, remaining());
  }
  Reader part(memory_, peek(bytes));
  skip(bytes);
  return part;
}

Status Writer::write(std::span<const std::byte> from) {
  if (from.size() > remaining()) {
    return too_short("write", from.size(), remaining());
  }
  size_t done = 0;
  for (const GuestSlice& slice : peek(from.size())) {
    RAMET_RETURN_IF_ERROR(memory_->write(slice.start, from.subspan(done, slice.size)));
    done += slice.size;
  }
  skip(done);
  return Status();
}

Status Writer::fill_zero(uint64_t bytes) {
  if (bytes > remaining()) {
    return too_short("zero", bytes, remaining());
  }
  for (const GuestSlice& slice : peek(bytes)) {
    RAMET_RETURN_IF_ERROR(memory_->fill_zero(slice));
  }
  skip(bytes);
  return Status();
}

StatusOr<Writer> Writer::take(uint64_t bytes) {
  if (bytes > remaining()) {
    return too_short("take", bytes, remaining());
  }
  Writer part(memory_, peek(bytes));
  skip(bytes);
  return part;
}

// Copies one chain, descriptor by descriptor. Each descriptor is read from guest memory once.
class ChainWalker {
 public:
  ChainWalker(const ChainSource& source, uint16_t head)
      : source_(source), chain_(source.memory, head) {}

  StatusOr<Chain> run() {
    RAMET_RETURN_IF_ERROR(walk(source_.table, source_.size, chain_.head(), source_.indirect));
    return std::move(chain_);
  }

 private:
  Status walk(GuestAddr table, size_t size, uint16_t index, bool may_be_indirect) {
    // A chain that visits more descriptors than the table has, visits one twice.
    for (size_t visited = 0; visited < size; ++visited) {
      if (index >= size) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "chain %d: descriptor index %d in a table of %d", chain_.head(), index, size));
      }
      const auto at = table.plus(uint64_t{index} * sizeof(Descriptor));
      if (!at) {
        return absl::OutOfRangeError(
            absl::StrFormat("chain %d: table at %#x wraps", chain_.head(), table.value));
      }
      RAMET_ASSIGN_OR_RETURN(const Descriptor descriptor,
                             source_.memory->read_object<Descriptor>(*at));
      if ((descriptor.flags & kDescIndirect) != 0) {
        return walk_indirect(descriptor, may_be_indirect);
      }
      RAMET_RETURN_IF_ERROR(add(descriptor));
      if ((descriptor.flags & kDescNext) == 0) {
        return Status();
      }
      index = descriptor.next;
    }
    return absl::InvalidArgumentError(
        absl::StrFormat("chain %d: loops, more than %d descriptors", chain_.head(), size));
  }

  // 2.7.5.3: an indirect table ends a chain, is not nested, and begins at its entry 0. The flag
  // WRITE of the descriptor that points to it is ignored (2.7.5.3.2).
  Status walk_indirect(const Descriptor& descriptor, bool allowed) {
    const size_t entries = descriptor.length / sizeof(Descriptor);
    const bool whole = descriptor.length % sizeof(Descriptor) == 0;
    if (!allowed || (descriptor.flags & kDescNext) != 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "chain %d: an indirect table that was not negotiated, is nested or has a successor "
          "(flags %#x)",
          chain_.head(), descriptor.flags));
    }
    if (!whole || entries == 0 || entries > kMaxChainDescriptors) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "chain %d: an indirect table of %d bytes, must be 1 to %d times %d", chain_.head(),
          descriptor.length, kMaxChainDescriptors, sizeof(Descriptor)));
    }
    return walk(GuestAddr{descriptor.address}, entries, 0, false);
  }

  Status add(const Descriptor& descriptor) {
    if (++descriptors_ > kMaxChainDescriptors) {
      return absl::InvalidArgumentError(absl::StrFormat("chain %d: more than %d descriptors",
                                                        chain_.head(), kMaxChainDescriptors));
    }
    const bool writable = (descriptor.flags & kDescWrite) != 0;
    if (writable) {
      seen_writable_ = true;
    } else if (seen_writable_) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "chain %d: a device-readable buffer after a device-writable one", chain_.head()));
    }
    if (descriptor.length == 0) {
      return Status();
    }
    const auto slice = GuestSlice::make(GuestAddr{descriptor.address}, descriptor.length);
    if (!slice || !source_.memory->contains(*slice)) {
      return absl::OutOfRangeError(absl::StrFormat("chain %d: buffer of %d bytes at %#x is not RAM",
                                                   chain_.head(), descriptor.length,
                                                   descriptor.address));
    }
    // Neither sum overflows: 256 lengths of 32 bits fit in 64.
    (writable ? chain_.writable_bytes_ : chain_.readable_bytes_) += slice->size;
    (writable ? chain_.writable_ : chain_.readable_).push_back(*slice);
    if (chain_.writable_bytes_ + chain_.readable_bytes_ > kMaxChainBytes) {
      return absl::InvalidArgumentError(
          absl::StrFormat("chain %d: more than %d bytes in all", chain_.head(), kMaxChainBytes));
    }
    return Status();
  }

  const ChainSource& source_;
  Chain chain_;
  size_t descriptors_ = 0;
  bool seen_writable_ = false;
};

StatusOr<Chain> walk_chain(const ChainSource& source, uint16_t head) {
  return ChainWalker(source, head).run();
}

}  // namespace ramet::virtio
