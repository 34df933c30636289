// Guests whose ring is sound and whose disk requests are not.
#include "devices/block/abi.h"
#include "devices/block/request.h"
#include "devices/virtio/chain.h"
#include "tests/guests/guest.h"

namespace ramet::testing {
namespace {

using virtio::kDescNext;
using virtio::kDescWrite;

constexpr uint64_t kHeader = kFreeMemory;
constexpr uint64_t kStatus = kFreeMemory + 0x100;
constexpr uint64_t kData = kFreeMemory + 0x1'0000;  // 128 KiB of it
constexpr uint64_t kSectors = (16 << 20) / block::kSectorBytes;

struct BadRequest {
  block::RequestHeader header = {};
  uint32_t header_bytes = sizeof(block::RequestHeader);
  uint32_t data_bytes = 0;
  bool device_writes = false;
  uint16_t data_buffers = 1;
  uint32_t slot = kScratchSlot;
};

// Writes the chain of the request at descriptor 0.
void put_request(GuestBuilder& guest, const Ring& ring, const BadRequest& bad) {
  guest.put_object(kHeader, bad.header);
  const auto flags = static_cast<uint16_t>(kDescNext | (bad.device_writes ? kDescWrite : 0));
  uint16_t next = 0;
  guest.descriptor(ring, next, {kHeader, bad.header_bytes, kDescNext, 1});
  for (uint16_t i = 0; i < bad.data_buffers; ++i) {
    ++next;
    guest.descriptor(ring, next, {kData, bad.data_bytes, flags, static_cast<uint16_t>(next + 1)});
  }
  guest.descriptor(ring, static_cast<uint16_t>(next + 1), {kStatus, 1, kDescWrite, 0});
  guest.all_available(ring, 1);
}

// The same request again and again, each answered before the next.
void ask(GuestBuilder& guest, const BadRequest& bad) {
  const Ring ring = {bad.slot, 0, 128};
  put_request(guest, ring, bad);
  guest.bring_up({ring});
  guest.cpu().forever([&] {
    guest.submit(ring);
    guest.wait_used(ring);
    guest.round();
  });
}

void unknown_type(GuestBuilder& guest) { ask(guest, {.header = {.type = 0xdeadbeef}}); }
void read_at_the_last_sector_there_is(GuestBuilder& guest) {
  ask(guest, {.header = {.sector = ~uint64_t{0}}, .data_bytes = 4096, .device_writes = true});
}
void write_over_the_end(GuestBuilder& guest) {
  ask(guest, {.header = {.type = block::kTypeOut, .sector = kSectors - 1}, .data_bytes = 1024});
}
void read_of_nothing(GuestBuilder& guest) { ask(guest, {.data_bytes = 0, .device_writes = true}); }
void read_of_odd_size(GuestBuilder& guest) {
  ask(guest, {.data_bytes = 513, .device_writes = true});
}
void read_into_what_is_read_only(GuestBuilder& guest) { ask(guest, {.data_bytes = 512}); }
void half_a_header(GuestBuilder& guest) { ask(guest, {.header_bytes = 7}); }
void write_to_a_read_only_disk(GuestBuilder& guest) {
  ask(guest, {.header = {.type = block::kTypeOut}, .data_bytes = 512, .slot = kRootSlot});
}
void largest_write(GuestBuilder& guest) {
  ask(guest, {.header = {.type = block::kTypeOut},
              .data_bytes = block::kMaxSegmentBytes,
              .data_buffers = block::kMaxSegments});
}
void largest_read(GuestBuilder& guest) {
  ask(guest, {.data_bytes = block::kMaxSegmentBytes,
              .device_writes = true,
              .data_buffers = block::kMaxSegments});
}
void identify_into_a_byte(GuestBuilder& guest) {
  ask(guest, {.header = {.type = block::kTypeGetId}, .data_bytes = 1, .device_writes = true});
}
void flush_with_data(GuestBuilder& guest) {
  ask(guest, {.header = {.type = block::kTypeFlush}, .data_bytes = 4096});
}

void ranges(GuestBuilder& guest, uint32_t type, const block::RangeSegment& range,
            uint32_t count = 1) {
  for (uint32_t i = 0; i < count; ++i) {
    guest.put_object(kData + i * sizeof(range), range);
  }
  ask(guest,
      {.header = {.type = type}, .data_bytes = static_cast<uint32_t>(count * sizeof(range))});
}
void discard_with_flags(GuestBuilder& guest) {
  ranges(guest, block::kTypeDiscard, {0, 8, 0xffffffff});
}
void discard_over_the_end(GuestBuilder& guest) {
  ranges(guest, block::kTypeDiscard, {~uint64_t{0} - 3, 0xffffffff, 0});
}
void more_ranges_than_allowed(GuestBuilder& guest) {
  ranges(guest, block::kTypeDiscard, {0, 8, 0}, block::kMaxRangeSegments + 1);
}
void zeroes_the_whole_disk(GuestBuilder& guest) {
  ranges(guest, block::kTypeWriteZeroes, {0, kSectors, 0}, block::kMaxRangeSegments);
}

// Block after block, to the end and beyond.
void fills_its_disk(GuestBuilder& guest) {
  const Ring ring = {kScratchSlot, 0, 128};
  put_request(guest, ring, {.header = {.type = block::kTypeOut}, .data_bytes = 64 << 10});
  guest.bring_up({ring});
  guest.cpu().forever([&] {
    guest.submit(ring);
    guest.wait_used(ring);
    guest.cpu().add64(kHeader + offsetof(block::RequestHeader, sector), 128);
    guest.round();
  });
}

void no_place_for_the_status(GuestBuilder& guest) {
  const Ring ring = {kScratchSlot, 0, 128};
  guest.descriptor(ring, 0, {kHeader, 16, 0, 0});
  guest.cpu().forever([&] {
    guest.bring_up({ring});
    guest.submit(ring);
    guest.wait_needs_reset(kScratchSlot);
    guest.round();
  });
}

// As many descriptors as a chain may have, through an indirect table.
void longest_chain(GuestBuilder& guest) {
  constexpr uint64_t kTable = kFreeMemory + 0x8000;
  constexpr uint16_t kLast = virtio::kMaxChainDescriptors - 1;
  const Ring ring = {kScratchSlot, 0, 128};
  guest.put_object(kHeader, block::RequestHeader{.type = block::kTypeOut});
  for (uint16_t i = 0; i <= kLast; ++i) {
    const uint16_t flags = i == kLast ? kDescWrite : kDescNext;
    guest.put_object(kTable + i * sizeof(virtio::Descriptor),
                     virtio::Descriptor{i == kLast ? kStatus : kHeader, i == kLast ? 1u : 16u,
                                        flags, static_cast<uint16_t>(i + 1)});
  }
  guest.descriptor(ring, 0,
                   {kTable, (kLast + 1) * sizeof(virtio::Descriptor), virtio::kDescIndirect, 0});
  guest.all_available(ring, 1);
  guest.bring_up({ring});
  guest.cpu().forever([&] {
    guest.submit(ring);
    guest.wait_used(ring);
    guest.round();
  });
}

// As many requests as the queue holds, without ever waiting for one.
void floods(GuestBuilder& guest) {
  const Ring ring = {kScratchSlot, 0, 128};
  put_request(guest, ring, {.header = {.type = block::kTypeOut}, .data_bytes = 64 << 10});
  guest.bring_up({ring});
  guest.cpu().forever([&] {
    guest.submit(ring, 128);
    guest.cpu().repeat(1000, [&] {
      guest.cpu().store32(device_register(kScratchSlot, virtio::reg::kQueueNotify), 0);
    });
    guest.wait_used(ring);
    guest.round();
  });
}

// What the machine holds for itself is no more than the disk.
std::string disk_is_bounded(Instance& instance) {
  const uint64_t bytes = instance.metrics().private_disk_bytes;
  return bytes > 0 && bytes <= kSectors * block::kSectorBytes
             ? ""
             : "the scratch disk holds " + std::to_string(bytes) + " bytes";
}

}  // namespace

HostileGuests block_guests() {
  const Promise disk = {.processors = 3};
  return {
      {.name = "asks its disk for what no disk can", .write = unknown_type, .promise = disk},
      {.name = "reads at the last sector there is",
       .write = read_at_the_last_sector_there_is,
       .promise = disk},
      {.name = "writes over its disk's end", .write = write_over_the_end, .promise = disk},
      {.name = "reads nothing", .write = read_of_nothing, .promise = disk},
      {.name = "reads a sector and a byte", .write = read_of_odd_size, .promise = disk},
      {.name = "reads into what it says is read-only",
       .write = read_into_what_is_read_only,
       .promise = disk},
      {.name = "sends half a request header", .write = half_a_header, .promise = disk},
      {.name = "writes to its read-only disk", .write = write_to_a_read_only_disk, .promise = disk},
      {.name = "writes as much as a request can hold",
       .write = largest_write,
       .promise = disk,
       .rounds = 20},
      {.name = "reads as much as a request can hold",
       .write = largest_read,
       .promise = disk,
       .rounds = 20},
      {.name = "asks for its disk's name in a byte",
       .write = identify_into_a_byte,
       .promise = disk},
      {.name = "flushes with data", .write = flush_with_data, .promise = disk},
      {.name = "discards with flags that are none", .write = discard_with_flags, .promise = disk},
      {.name = "discards over its disk's end", .write = discard_over_the_end, .promise = disk},
      {.name = "discards more ranges than are allowed",
       .write = more_ranges_than_allowed,
       .promise = disk},
      {.name = "zeroes its whole disk sixteen times a request",
       .write = zeroes_the_whole_disk,
       .promise = disk,
       .rounds = 20},
      {.name = "fills its disk and goes on",
       .write = fills_its_disk,
       .promise = disk,
       .rounds = 300,
       .proof = disk_is_bounded},
      {.name = "leaves no place for a status", .write = no_place_for_the_status, .promise = disk},
      {.name = "gives the longest chain there may be", .write = longest_chain, .promise = disk},
      {.name = "floods its disk with requests and notifications",
       .write = floods,
       .promise = disk,
       .rounds = 3,
       .proof = disk_is_bounded},
  };
}

}  // namespace ramet::testing
