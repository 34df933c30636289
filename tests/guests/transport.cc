// Guests that drive the virtio-mmio registers out of order, or with numbers that mean nothing.
#include "tests/guests/guest.h"

namespace ramet::testing {
namespace {

namespace reg = virtio::reg;

constexpr Ring kDisk = {kScratchSlot, 0, 128};

uint64_t disk(uint64_t offset) { return device_register(kScratchSlot, offset); }

void random_registers(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    for (uint32_t slot = 0; slot < x86::kVirtioMmioSlots; ++slot) {
      guest.cpu().random_store(device_register(slot, 0), 0xfc, 4);
      guest.cpu().random_load(device_register(slot, 0), 0x1fc, 4);
    }
    guest.round();
  });
}

// Registers in the right order with random contents, so that devices do come up.
void random_queues(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  code.forever([&] {
    for (const uint32_t slot : {kRootSlot, kScratchSlot, kVsockSlot}) {
      guest.negotiate(slot);
      for (uint32_t queue = 0; queue < 3; ++queue) {
        code.store32(device_register(slot, reg::kQueueSel), queue);
        code.store32(device_register(slot, reg::kQueueNum), 64);
        for (const uint64_t offset :
             {reg::kQueueDescLow, reg::kQueueDriverLow, reg::kQueueDeviceLow}) {
          // Anywhere in the upper half of memory, of which random() makes a ring's contents too.
          code.random_below(0x3f'fff0);
          code.bytes({0x0d});  // or eax, imm32
          code.immediate(kHostileMemoryBytes / 2, 4);
          code.store_rax(device_register(slot, offset), 4);
          code.store32(device_register(slot, offset + 4), 0);
          code.random_store(kHostileMemoryBytes / 2, 0x3f'fff0, 8);
        }
        code.store32(device_register(slot, reg::kQueueReady), 1);
      }
      guest.driver_ok(slot);
      for (uint32_t queue = 0; queue < 3; ++queue) {
        code.store32(device_register(slot, reg::kQueueNotify), queue);
      }
    }
    guest.round();
  });
}

void driver_ok_too_early(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    guest.cpu().store32(disk(reg::kStatus), 0);
    guest.cpu().store32(disk(reg::kStatus), virtio::kStatusDriverOk);
    guest.cpu().wait_value(disk(reg::kStatus), 0);
    const uint32_t driver = virtio::kStatusAcknowledge | virtio::kStatusDriver;
    guest.cpu().store32(disk(reg::kStatus), driver | virtio::kStatusDriverOk);
    guest.cpu().wait_value(disk(reg::kStatus), driver);
    guest.cpu().store32(disk(reg::kQueueNotify), 0);
    guest.round();
  });
}

void driver_ok_without_queues(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    for (const uint32_t slot : {kRootSlot, kScratchSlot, kVsockSlot}) {
      guest.negotiate(slot);
      guest.driver_ok(slot);
      guest.wait_needs_reset(slot);
      guest.cpu().store32(device_register(slot, reg::kQueueNotify), 0);
    }
    guest.round();
  });
}

void features_that_are_not_offered(GuestBuilder& guest) {
  guest.cpu().forever([&] {
    for (const uint64_t features : {uint64_t{0}, ~uint64_t{0}, virtio::kFeatureIndirectDesc}) {
      guest.negotiate(kScratchSlot, features);
      guest.cpu().wait_value(disk(reg::kStatus),
                             virtio::kStatusAcknowledge | virtio::kStatusDriver);
    }
    guest.round();
  });
}

// Each of these queues must not become ready.
void refused_queues(GuestBuilder& guest, std::initializer_list<GuestBuilder::Place> places) {
  guest.cpu().forever([&] {
    guest.negotiate(kScratchSlot);
    for (const GuestBuilder::Place& place : places) {
      guest.set_up_at(kScratchSlot, 0, place);
      guest.cpu().wait_value(disk(reg::kQueueReady), 0);
    }
    guest.driver_ok(kScratchSlot);
    guest.wait_needs_reset(kScratchSlot);
    guest.round();
  });
}

void queue_sizes(GuestBuilder& guest) {
  const uint64_t d = kDisk.desc();
  const uint64_t a = kDisk.avail();
  const uint64_t u = kDisk.used();
  refused_queues(guest, {{0, d, a, u},
                         {3, d, a, u},
                         {256, d, a, u},
                         {65535, d, a, u},
                         {65536, d, a, u},
                         {0x80000080, d, a, u}});
}

void queue_addresses(GuestBuilder& guest) {
  const uint64_t d = kDisk.desc();
  const uint64_t a = kDisk.avail();
  const uint64_t u = kDisk.used();
  refused_queues(guest, {{128, ~uint64_t{0} - 15, a, u},
                         {128, d, ~uint64_t{0} - 1, u},
                         {128, d, a, ~uint64_t{0} - 3},
                         {128, kHostileMemoryBytes - 16, a, u},
                         {128, d, kHostileMemoryBytes - 2, u},
                         {128, x86::kVirtioMmioBase, a, u},
                         {128, d + 1, a, u},
                         {128, d, a, u + 2}});
}

void notifies_what_is_not_there(GuestBuilder& guest) {
  guest.bring_up({kDisk});
  guest.cpu().forever([&] {
    guest.cpu().random();
    guest.cpu().store_rax(disk(reg::kQueueNotify), 4);
    for (uint32_t slot = 0; slot < x86::kVirtioMmioSlots; ++slot) {
      guest.cpu().store32(device_register(slot, reg::kQueueNotify), 1);
    }
    guest.round();
  });
}

void changes_a_running_queue(GuestBuilder& guest) {
  guest.bring_up({kDisk});
  guest.cpu().forever([&] {
    guest.set_up_at(kScratchSlot, 0, {128, 0, 0, 0});
    guest.cpu().wait_value(disk(reg::kQueueReady), 1);
    guest.cpu().store32(disk(reg::kQueueNotify), 0);
    guest.round();
  });
}

void resets_in_the_middle(GuestBuilder& guest) {
  constexpr uint64_t kHeader = kFreeMemory;
  guest.put_object(kHeader, uint32_t{1});
  guest.descriptor(kDisk, 0, {kHeader, 16, virtio::kDescNext, 1});
  guest.descriptor(kDisk, 1, {kFreeMemory, 1 << 20, virtio::kDescNext, 2});
  guest.descriptor(kDisk, 2, {kFreeMemory + 0x100, 1, virtio::kDescWrite, 0});
  guest.all_available(kDisk, 1);
  guest.cpu().forever([&] {
    guest.bring_up({kDisk});
    guest.submit(kDisk, 128);
    guest.round();
  });
}

void configuration_space(GuestBuilder& guest) {
  guest.bring_up({kDisk});
  guest.cpu().forever([&] {
    for (const unsigned size : {1u, 2u, 4u, 8u}) {
      guest.cpu().random_store(disk(reg::kConfig), 0xff, size);
      guest.cpu().random_load(disk(reg::kConfig), 0xff, size);
    }
    guest.round();
  });
}

}  // namespace

HostileGuests transport_guests() {
  const Promise disk_promise = {.processors = 3};
  return {
      {.name = "writes nonsense to device registers", .write = random_registers},
      {.name = "sets devices up with nonsense", .write = random_queues, .promise = disk_promise},
      {.name = "says DRIVER_OK before FEATURES_OK", .write = driver_ok_too_early},
      {.name = "says DRIVER_OK without a queue", .write = driver_ok_without_queues},
      {.name = "takes features that are not offered", .write = features_that_are_not_offered},
      {.name = "sets up queues of impossible sizes", .write = queue_sizes},
      {.name = "sets up queues at impossible addresses", .write = queue_addresses},
      {.name = "notifies queues that are not there", .write = notifies_what_is_not_there},
      {.name = "changes a queue that runs", .write = changes_a_running_queue},
      {.name = "resets its disk in the middle of requests",
       .write = resets_in_the_middle,
       .promise = disk_promise,
       .rounds = 20},
      {.name = "reads and writes all over configuration space", .write = configuration_space},
  };
}

}  // namespace ramet::testing
