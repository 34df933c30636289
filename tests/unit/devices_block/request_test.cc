#include "devices/block/request.h"

#include <catch2/catch.hpp>

#include "devices/block/state.h"
#include "devices/virtio/mmio.h"
#include "tests/unit/devices_block/block_test_disk.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

struct BlockMachine {
  explicit BlockMachine(block::Access access = block::Access::kReadWrite) {
    auto made = must(block::BlockDevice::create(
        std::make_unique<block::FileBackend>(make_disk_file(kDiskBytes, access)), {"serial-7"}));
    device = made.get();
    transport = must(virtio::MmioTransport::create(std::move(made), {memory.get(), &irq, nullptr}));
    driver = std::make_unique<VirtioDriver>(memory.get(), transport.get());
    REQUIRE(driver->bring_up());
  }
  // The status that the request gets; 0xee when it was not answered.
  uint8_t run(const TestRequest& request) {
    driver->notify(0);
    return status_of(*driver, request);
  }
  uint64_t metric(std::string_view name) const {
    for (const virtio::Metric& metric : device->metrics()) {
      if (metric.name == name) {
        return metric.value;
      }
    }
    return ~uint64_t{0};
  }

  static constexpr uint64_t kDiskBytes = 256 * 512;
  std::unique_ptr<GuestMemory> memory = make_guest_memory(16 << 20);
  CountingIrq irq;
  block::BlockDevice* device = nullptr;
  std::unique_ptr<virtio::MmioTransport> transport;
  std::unique_ptr<VirtioDriver> driver;
};

constexpr uint8_t kOk = 0;
constexpr uint8_t kIoError = 1;
constexpr uint8_t kUnsupported = 2;
constexpr uint8_t kUnanswered = 0xee;

}  // namespace

TEST_CASE("a write is read back, and one interrupt tells of each") {
  BlockMachine machine;
  const TestRequest write = add_request(machine.driver.get(), block::kTypeOut, 4, 1024, false);
  must(machine.memory->write(write.data, pattern_bytes(0, 1024, 99)));
  CHECK(machine.run(write) == kOk);
  CHECK(machine.driver->queue(0).take_used()->length == 1);
  const TestRequest read = add_request(machine.driver.get(), block::kTypeIn, 3, 2048, true);
  CHECK(machine.run(read) == kOk);
  CHECK(machine.driver->queue(0).take_used()->length == 2049);
  auto expected = pattern_bytes(3 * 512, 2048);
  const auto middle = pattern_bytes(0, 1024, 99);
  std::copy(middle.begin(), middle.end(), expected.begin() + 512);
  CHECK(data_of(*machine.driver, read, 2048) == expected);
  CHECK(machine.driver->take_interrupts() == virtio::kInterruptUsedRing);
  CHECK(machine.metric("read_bytes") == 2048);
  CHECK(machine.metric("written_bytes") == 1024);
}

TEST_CASE("a request past the end of the disk is an I/O error") {
  BlockMachine machine;
  for (const uint64_t sector : {uint64_t{255}, uint64_t{256}, uint64_t{1} << 55, ~uint64_t{0}}) {
    CHECK(machine.run(add_request(machine.driver.get(), block::kTypeIn, sector, 1024, true)) ==
          kIoError);
  }
  CHECK(machine.metric("refused") == 4);
  CHECK(machine.run(add_request(machine.driver.get(), block::kTypeIn, 254, 1024, true)) == kOk);
}

TEST_CASE("malformed requests that have a status byte are answered with an I/O error") {
  BlockMachine machine;
  VirtioDriver* driver = machine.driver.get();
  // Not whole sectors; the wrong direction; a segment over size_max.
  CHECK(machine.run(add_request(driver, block::kTypeIn, 0, 100, true)) == kIoError);
  CHECK(machine.run(add_request(driver, block::kTypeIn, 0, 512, false)) == kIoError);
  CHECK(machine.run(add_request(driver, block::kTypeOut, 0, 512, true)) == kIoError);
  CHECK(machine.run(add_request(driver, block::kTypeIn, 0, (64 << 10) + 512, true)) == kIoError);
  // A header of 15 bytes.
  TestRequest request;
  request.header = driver->allocate(4096);
  request.status = GuestAddr{request.header.value + 64};
  driver->queue(0).add({{request.header, 15, false}, {request.status, 1, true}});
  CHECK(machine.run(request) == kIoError);
  CHECK(machine.metric("refused") == 5);
  CHECK_FALSE(driver->needs_reset());
}

TEST_CASE("a request without a byte for its status breaks the queue") {
  BlockMachine machine;
  const GuestAddr header = machine.driver->allocate(4096);
  machine.driver->queue(0).add({{header, 16, false}});
  machine.driver->notify(0);
  CHECK(machine.driver->needs_reset());
  CHECK(machine.metric("broken_rings") == 1);
}

TEST_CASE("what was served before a broken chain is still told to the driver") {
  BlockMachine machine;
  const TestRequest good = add_request(machine.driver.get(), block::kTypeIn, 0, 512, true);
  machine.driver->queue(0).make_available(0x7fff);
  CHECK(machine.run(good) == kOk);
  CHECK(machine.driver->queue(0).take_used().has_value());
  CHECK(machine.driver->needs_reset());
  CHECK(machine.driver->take_interrupts() ==
        (virtio::kInterruptUsedRing | virtio::kInterruptConfig));
}

TEST_CASE("the header and the data may be cut into any pieces") {
  BlockMachine machine;
  VirtioDriver* driver = machine.driver.get();
  const GuestAddr page = driver->allocate(4096);
  const GuestAddr data = driver->allocate(4096);
  must(driver->memory().write_object(page, block::RequestHeader{block::kTypeIn, 0, 7}));
  const auto at = [](GuestAddr start, uint64_t offset) { return GuestAddr{start.value + offset}; };
  driver->queue(0).add({{page, 3, false},
                        {at(page, 3), 13, false},
                        {data, 1, true},
                        {at(data, 1), 700, true},
                        {at(data, 701), 323 + 1, true}});  // the status is the last of these
  driver->notify(0);
  std::vector<std::byte> bytes(1024);
  must(driver->memory().read(data, bytes));
  CHECK(bytes == pattern_bytes(7 * 512, 1024));
  CHECK(must(driver->memory().read_object<uint8_t>(at(data, 1024))) == kOk);
}

TEST_CASE("an indirect request is served as a direct one") {
  BlockMachine machine;
  VirtioDriver* driver = machine.driver.get();
  const GuestAddr page = driver->allocate(4096);
  const GuestAddr data = driver->allocate(512);
  const uint64_t table = page.value + 1024;
  must(driver->memory().write_object(page, block::RequestHeader{block::kTypeIn, 0, 9}));
  const virtio::Descriptor entries[] = {
      {page.value, 16, virtio::kDescNext, 2},
      {page.value + 64, 1, virtio::kDescWrite, 0},
      {data.value, 512, virtio::kDescNext | virtio::kDescWrite, 1}};
  must(driver->memory().write_object(GuestAddr{table}, entries));
  driver->queue(0).write_descriptor(5, {table, sizeof(entries), virtio::kDescIndirect, 0});
  driver->queue(0).make_available(5);
  driver->notify(0);
  CHECK(driver->queue(0).take_used()->id == 5);
  CHECK(must(driver->memory().read_object<uint8_t>(GuestAddr{page.value + 64})) == kOk);
}

TEST_CASE("unknown request types are answered as unsupported") {
  BlockMachine machine;
  for (const uint32_t type : {2u, 3u, 5u, 9u, 14u, 0xffffffffu}) {
    CHECK(machine.run(add_request(machine.driver.get(), type, 0, 512, true)) == kUnsupported);
  }
  CHECK(machine.metric("unsupported") == 6);
}

TEST_CASE("the id is what the options say, padded with zeros") {
  BlockMachine machine;
  const TestRequest request = add_request(machine.driver.get(), block::kTypeGetId, 0, 20, true);
  CHECK(machine.run(request) == kOk);
  const auto id = data_of(*machine.driver, request, 20);
  CHECK(std::string(reinterpret_cast<const char*>(id.data())) == "serial-7");
}

TEST_CASE("a read-only disk says so, and refuses writes, discards and zeroing") {
  BlockMachine machine(block::Access::kReadOnly);
  CHECK((machine.driver->device_features() & block::kFeatureReadOnly) != 0);
  CHECK((machine.driver->device_features() & block::kFeatureDiscard) == 0);
  for (const uint32_t type : {block::kTypeOut, block::kTypeDiscard, block::kTypeWriteZeroes}) {
    CHECK(machine.run(add_request(machine.driver.get(), type, 0, 512, false)) == kIoError);
  }
  CHECK(machine.run(add_request(machine.driver.get(), block::kTypeFlush, 0, 0, false)) == kOk);
  CHECK(machine.run(add_request(machine.driver.get(), block::kTypeIn, 0, 512, true)) == kOk);
}

TEST_CASE("zeroing checks each of its ranges and clears them") {
  BlockMachine machine;
  VirtioDriver* driver = machine.driver.get();
  const auto zero = [&](block::RangeSegment segment, uint32_t type) {
    const TestRequest request = add_request(driver, type, 0, sizeof(segment), false);
    must(driver->memory().write_object(request.data, segment));
    return machine.run(request);
  };
  CHECK(zero({2, 2, block::kRangeUnmap}, block::kTypeWriteZeroes) == kOk);
  CHECK(zero({8, 1, 0}, block::kTypeDiscard) == kOk);
  CHECK(zero({255, 2, 0}, block::kTypeWriteZeroes) == kIoError);
  CHECK(zero({0, 0xffffffff, 0}, block::kTypeWriteZeroes) == kIoError);
  CHECK(zero({0, 1, 2}, block::kTypeWriteZeroes) == kUnsupported);
  CHECK(zero({0, 1, block::kRangeUnmap}, block::kTypeDiscard) == kUnsupported);
  const TestRequest read = add_request(driver, block::kTypeIn, 1, 2048, true);
  CHECK(machine.run(read) == kOk);
  auto expected = pattern_bytes(512, 2048);
  std::fill(expected.begin() + 512, expected.begin() + 1536, std::byte{0});
  CHECK(data_of(*driver, read, 2048) == expected);
}

TEST_CASE("the configuration space tells capacity and limits") {
  BlockMachine machine;
  CHECK(machine.driver->read32(virtio::reg::kConfig) == 256);
  CHECK(machine.driver->read32(virtio::reg::kConfig + 4) == 0);
  CHECK(machine.driver->read32(virtio::reg::kConfig + 8) == block::kMaxSegmentBytes);
  CHECK(machine.driver->read32(virtio::reg::kConfig + 12) == block::kMaxSegments);
  CHECK(machine.driver->read32(virtio::reg::kConfig + 20) == 512);
}

TEST_CASE("a block state of another disk or of damaged bytes is refused") {
  const auto make = [] { return std::make_unique<block::FileBackend>(make_disk_file(64 * 512)); };
  const auto good = block::encode_state({64 * 512, true, {}});
  CHECK(block::BlockDevice::create_from_state(make(), {}, good).ok());
  const auto bigger = block::encode_state({65 * 512, true, {}});
  CHECK(block::BlockDevice::create_from_state(make(), {}, bigger).status().code() ==
        absl::StatusCode::kFailedPrecondition);
  const auto writable = block::encode_state({64 * 512, false, {}});
  CHECK_FALSE(block::BlockDevice::create_from_state(make(), {}, writable).ok());
  CHECK_FALSE(block::decode_state(std::span(good).first(good.size() - 1)).ok());
  CHECK_FALSE(block::decode_state(block::encode_state({513, true, {}})).ok());
  CHECK_FALSE(block::decode_state(block::encode_state({0, true, {}})).ok());
}

TEST_CASE("a request that is never answered leaves its status byte alone") {
  BlockMachine machine;
  const TestRequest request = add_request(machine.driver.get(), block::kTypeIn, 0, 512, true);
  CHECK(status_of(*machine.driver, request) == kUnanswered);
}
