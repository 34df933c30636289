// The split ring and its chains over hostile memory. Input: 1 byte of flags, 1 of rounds, then
// guest memory: descriptor table at 0, available ring at 0x400, used ring at 0x800, the rest is
// free.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/virtio/queue.h"
#include "fuzz/virtio_machine.h"

namespace {

using namespace ramet;
using fuzz::require;

constexpr uint16_t kSize = 32;
constexpr virtio::QueueLayout kLayout{kSize, {0}, {0x400}, {0x800}};

void check_chain(const virtio::Chain& chain) {
  uint64_t readable = 0;
  uint64_t writable = 0;
  for (const GuestSlice& slice : chain.readable()) {
    require(slice.size > 0 && fuzz::memory().contains(slice));
    readable += slice.size;
  }
  for (const GuestSlice& slice : chain.writable()) {
    require(slice.size > 0 && fuzz::memory().contains(slice));
    writable += slice.size;
  }
  require(readable == chain.readable_bytes() && writable == chain.writable_bytes());
  require(readable + writable <= virtio::kMaxChainBytes);
  require(chain.readable().size() + chain.writable().size() <= virtio::kMaxChainDescriptors);
}

// The streams give and take exactly what the chain has, in any pieces.
void check_streams(const virtio::Chain& chain, size_t piece) {
  virtio::Reader reader = chain.reader();
  std::vector<std::byte> buffer(piece);
  while (reader.remaining() >= piece) {
    const uint64_t before = reader.remaining();
    require(reader.read(buffer).ok() && reader.remaining() == before - piece);
  }
  require(!reader.read(buffer).ok());
  virtio::Writer writer = chain.writer();
  const uint64_t half = writer.remaining() / 2;
  auto first = writer.take(half);
  require(first.ok() && first->remaining() == half);
  require(writer.remaining() == chain.writable_bytes() - half);
  first->skip(half);
  require(first->peek(1).empty());
  require(!writer.take(writer.remaining() + 1).ok());
}

void run_round(virtio::Queue* queue, size_t piece) {
  const auto available = queue->begin_batch();
  if (!available.ok()) {
    require(!available.status().message().empty());
    return;
  }
  require(*available <= kSize);
  for (uint16_t i = 0; i < *available; ++i) {
    const auto chain = queue->pop();
    if (!chain.ok()) {
      return;
    }
    require(chain->has_value());
    check_chain(**chain);
    check_streams(**chain, piece);
    require(queue->in_flight() == 1);
    require(queue->push_used((*chain)->head(), 1).ok());
  }
  require(!queue->pop()->has_value());
  require(queue->should_interrupt().ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  fuzz::load(input.subspan(2));
  virtio::QueueConfig config(256);
  *config.mutable_layout() = kLayout;
  config.set_ready(true);
  const virtio::QueueFeatures features{(data[0] & 1) != 0, (data[0] & 2) != 0};
  auto queue = config.activate(&fuzz::memory(), features);
  require(queue.ok());
  for (int round = 0; round < 1 + data[1] % 3; ++round) {
    run_round(&*queue, 1 + data[0] / 4u);
  }
  return 0;
}
