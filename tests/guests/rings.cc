// Guests whose disk's ring is broken: loops, addresses outside memory, overlaps, and rings that a
// second processor changes while the device reads them.
#include "tests/guests/guest.h"

namespace ramet::testing {
namespace {

using virtio::kDescIndirect;
using virtio::kDescNext;
using virtio::kDescWrite;

constexpr Ring kDisk = {kScratchSlot, 0, 128};
constexpr uint64_t kHeader = kFreeMemory;
constexpr uint64_t kTable = kFreeMemory + 0x1000;
constexpr uint64_t kStatus = kFreeMemory + 0x100;
constexpr uint64_t kBuffer = kFreeMemory + 0x2000;
constexpr uint64_t kOutside = 0x7fff'0000'0000;

// Again and again: the first chain of a fresh queue is given to the device, which must say that it
// needs a reset.
void break_it(GuestBuilder& guest, uint16_t chains = 1) {
  guest.cpu().forever([&] {
    guest.bring_up({kDisk});
    guest.submit(kDisk, chains);
    guest.wait_needs_reset(kScratchSlot);
    guest.round();
  });
}

// Where a device that did not look would find all that it needs to answer the request instead.
constexpr virtio::Descriptor kPlaceForStatus = {kStatus, 1, kDescWrite, 0};

// A chain that begins with this descriptor.
void broken_first(GuestBuilder& guest, const virtio::Descriptor& descriptor) {
  guest.descriptor(kDisk, 0, descriptor);
  guest.descriptor(kDisk, 1, kPlaceForStatus);
  break_it(guest);
}

void loops_to_itself(GuestBuilder& guest) { broken_first(guest, {kBuffer, 16, kDescNext, 0}); }

void loops_in_a_ring(GuestBuilder& guest) {
  for (uint16_t i = 0; i < kDisk.size; ++i) {
    const auto next = static_cast<uint16_t>((i + 1) % kDisk.size);
    guest.descriptor(kDisk, i, {kBuffer, 16, kDescNext, next});
  }
  break_it(guest);
}

void next_outside_the_table(GuestBuilder& guest) {
  guest.put_object(kDisk.desc() + 40000 * sizeof(virtio::Descriptor), kPlaceForStatus);
  broken_first(guest, {kBuffer, 16, kDescNext, 40000});
}
void buffer_outside_memory(GuestBuilder& guest) {
  broken_first(guest, {kOutside, 16, kDescNext, 1});
}
void buffer_over_the_end(GuestBuilder& guest) {
  broken_first(guest, {kHostileMemoryBytes - 8, 16, kDescNext, 1});
}
void buffer_that_wraps(GuestBuilder& guest) {
  broken_first(guest, {~uint64_t{0} - 8, 0xffffffff, kDescNext, 1});
}
void buffer_in_a_device(GuestBuilder& guest) {
  broken_first(guest, {x86::kVirtioMmioBase, 16, kDescNext, 1});
}

void more_than_a_chain_may_hold(GuestBuilder& guest) {
  for (uint16_t i = 0; i < 3; ++i) {
    guest.descriptor(
        kDisk, i,
        {0, static_cast<uint32_t>(kHostileMemoryBytes), kDescNext, static_cast<uint16_t>(i + 1)});
  }
  guest.descriptor(kDisk, 3, kPlaceForStatus);
  break_it(guest);
}

void reads_after_writes(GuestBuilder& guest) {
  guest.descriptor(kDisk, 0, {kBuffer, 16, kDescNext | kDescWrite, 1});
  guest.descriptor(kDisk, 1, {kBuffer, 16, 0, 0});
  break_it(guest);
}

void head_outside_the_table(GuestBuilder& guest) {
  guest.put_object(kDisk.desc() + 60000 * sizeof(virtio::Descriptor), kPlaceForStatus);
  guest.available(kDisk, 0, 60000);
  break_it(guest);
}

void index_far_ahead(GuestBuilder& guest) { break_it(guest, 30000); }

void empty_table(GuestBuilder& guest) { broken_first(guest, {kTable, 0, kDescIndirect, 0}); }
void endless_table(GuestBuilder& guest) {
  guest.put_object(kTable, kPlaceForStatus);
  broken_first(guest, {kTable, 0xfffffff0, kDescIndirect, 0});
}
void table_outside_memory(GuestBuilder& guest) {
  broken_first(guest, {kOutside, 32, kDescIndirect, 0});
}
void table_that_wraps(GuestBuilder& guest) {
  broken_first(guest, {~uint64_t{0} - 15, 4096, kDescIndirect, 0});
}
void nested_tables(GuestBuilder& guest) {
  guest.put_object(kTable, virtio::Descriptor{kTable, 32, kDescIndirect, 0});
  broken_first(guest, {kTable, 32, kDescIndirect, 0});
}
void table_that_loops(GuestBuilder& guest) {
  guest.put_object(kTable, virtio::Descriptor{kBuffer, 16, kDescNext, 0});
  broken_first(guest, {kTable, 4096, kDescIndirect, 0});
}

// A request that is right, so that the device writes a used element.
void identify(GuestBuilder& guest) {
  guest.put_object(kHeader, uint32_t{8});
  guest.descriptor(kDisk, 0, {kHeader, 16, kDescNext, 1});
  guest.descriptor(kDisk, 1, {kBuffer, 21, kDescWrite, 0});
}

// The parts of the queue on top of each other: what the device writes, it reads again.
void overlap(GuestBuilder& guest, const GuestBuilder::Place& place) {
  identify(guest);
  guest.cpu().forever([&] {
    guest.negotiate(kScratchSlot);
    guest.set_up_at(kScratchSlot, 0, place);
    guest.driver_ok(kScratchSlot);
    guest.cpu().repeat(16, [&] {
      guest.cpu().add16(place.avail + virtio::kRingIndex, 1);
      guest.cpu().store32(device_register(kScratchSlot, virtio::reg::kQueueNotify), 0);
    });
    guest.round();
  });
}
void used_over_descriptors(GuestBuilder& guest) {
  overlap(guest, {128, kDisk.desc(), kDisk.avail(), kDisk.desc()});
}
void used_over_available(GuestBuilder& guest) {
  overlap(guest, {128, kDisk.desc(), kDisk.avail(), kDisk.avail()});
}
void all_in_one_place(GuestBuilder& guest) {
  overlap(guest, {128, kDisk.desc(), kDisk.desc(), kDisk.desc()});
}

// The first processor offers 64 chains at a time; `rewrite` is the second's.
void changing_ring(GuestBuilder& guest, const Assembler::Body& rewrite) {
  identify(guest);
  guest.all_available(kDisk, 2);
  guest.cpu().forever([&] {
    guest.bring_up({kDisk});
    guest.cpu().repeat(8, [&] { guest.submit(kDisk, 64); });
    guest.round();
  });
  guest.cpu(1).forever([&] {
    rewrite();
    guest.round(1);
  });
}

void changes_descriptors(GuestBuilder& guest) {
  changing_ring(guest, [&] {
    for (const virtio::Descriptor& next : {virtio::Descriptor{kHeader, 16, kDescNext, 1},
                                           {kOutside, 16, kDescNext, 1},
                                           {kHeader, 0xffffffff, kDescNext, 0},
                                           {kHeader, 16, kDescIndirect, 1}}) {
      guest.cpu(1).store(kDisk.desc(), next.address, 8);
      guest.cpu(1).store(kDisk.desc() + 8, next.length, 4);
      guest.cpu(1).store(kDisk.desc() + 12, next.flags | uint32_t{next.next} << 16, 4);
    }
  });
}

void changes_everything(GuestBuilder& guest) {
  changing_ring(guest, [&] {
    guest.cpu(1).random_store(kDisk.base(), 0x3fff, 2);
    guest.cpu(1).random_store(kDisk.desc(), 0x3f, 8);
    guest.cpu(1).random_store(kHeader, 0xf, 8);
  });
}

void changes_indices(GuestBuilder& guest) {
  changing_ring(guest, [&] {
    guest.cpu(1).add16(kDisk.avail_index(), 1);
    guest.cpu(1).random_store(kDisk.avail_index(), 0, 2);
    guest.cpu(1).store(kDisk.used_index(), 0xffff, 2);
  });
}

}  // namespace

HostileGuests ring_guests() {
  const Promise disk = {.processors = 3};
  const Promise both = {.processors = 4};
  return {
      {.name = "chains a descriptor to itself", .write = loops_to_itself, .promise = disk},
      {.name = "chains all descriptors in a ring", .write = loops_in_a_ring, .promise = disk},
      {.name = "chains beyond the table", .write = next_outside_the_table, .promise = disk},
      {.name = "gives a buffer outside memory", .write = buffer_outside_memory, .promise = disk},
      {.name = "gives a buffer over memory's end", .write = buffer_over_the_end, .promise = disk},
      {.name = "gives a buffer that wraps", .write = buffer_that_wraps, .promise = disk},
      {.name = "gives a buffer in a device", .write = buffer_in_a_device, .promise = disk},
      {.name = "gives more in a chain than is allowed",
       .write = more_than_a_chain_may_hold,
       .promise = disk},
      {.name = "gives bytes to read after bytes to write",
       .write = reads_after_writes,
       .promise = disk},
      {.name = "names a head beyond the table", .write = head_outside_the_table, .promise = disk},
      {.name = "runs its available index far ahead", .write = index_far_ahead, .promise = disk},
      {.name = "gives an indirect table of nothing", .write = empty_table, .promise = disk},
      {.name = "gives an indirect table of 4 GiB", .write = endless_table, .promise = disk},
      {.name = "gives an indirect table outside memory",
       .write = table_outside_memory,
       .promise = disk},
      {.name = "gives an indirect table that wraps", .write = table_that_wraps, .promise = disk},
      {.name = "nests indirect tables", .write = nested_tables, .promise = disk},
      {.name = "gives an indirect table that loops", .write = table_that_loops, .promise = disk},
      {.name = "puts the used ring over the descriptors",
       .write = used_over_descriptors,
       .promise = disk},
      {.name = "puts the used ring over the available one",
       .write = used_over_available,
       .promise = disk},
      {.name = "puts a whole queue in one place", .write = all_in_one_place, .promise = disk},
      {.name = "changes descriptors under the device",
       .write = changes_descriptors,
       .promise = both,
       .vcpus = 2},
      {.name = "changes a whole queue under the device",
       .write = changes_everything,
       .promise = both,
       .vcpus = 2},
      {.name = "changes a queue's indices under the device",
       .write = changes_indices,
       .promise = both,
       .vcpus = 2},
  };
}

}  // namespace ramet::testing
