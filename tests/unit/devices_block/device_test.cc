#include <cerrno>
#include <future>

#include <catch2/catch.hpp>

#include "devices/virtio/mmio.h"
#include "tests/unit/devices_block/block_test_disk.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

// A disk that may block, behind an executor that the test steps by hand.
struct SlowMachine {
  explicit SlowMachine(std::shared_ptr<const block::DiskFile> file,
                       std::function<uint64_t(uint64_t)> pace = {}) {
    auto device = must(
        block::BlockDevice::create(std::make_unique<block::FileBackend>(file),
                                   {.id = "slow", .executor = &executor, .pace = std::move(pace)}));
    block = device.get();
    transport =
        must(virtio::MmioTransport::create(std::move(device), {memory.get(), &irq, nullptr}));
    driver = std::make_unique<VirtioDriver>(memory.get(), transport.get());
    REQUIRE(driver->bring_up());
  }
  std::vector<TestRequest> add_reads(int count) {
    std::vector<TestRequest> requests;
    for (int i = 0; i < count; ++i) {
      requests.push_back(
          add_request(driver.get(), block::kTypeIn, static_cast<uint64_t>(i), 512, true));
    }
    return requests;
  }

  ManualExecutor executor;
  std::unique_ptr<GuestMemory> memory = make_guest_memory();
  CountingIrq irq;
  block::BlockDevice* block = nullptr;
  std::unique_ptr<virtio::MmioTransport> transport;
  std::unique_ptr<VirtioDriver> driver;
};

std::shared_ptr<const block::DiskFile> slow_file() {
  return make_disk_file(64 * 512, block::Access::kReadWrite);
}

}  // namespace

TEST_CASE("at most kMaxJobs requests are in flight, and each that ends starts the next") {
  SlowMachine machine(slow_file());
  const auto requests = machine.add_reads(10);
  machine.driver->notify(0);
  CHECK(machine.executor.waiting() == block::BlockDevice::kMaxJobs);
  CHECK(machine.driver->queue(0).used_index() == 0);
  CHECK(machine.executor.run_one());
  CHECK(machine.executor.waiting() == block::BlockDevice::kMaxJobs);
  CHECK(machine.driver->queue(0).used_index() == 1);
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 10);
  for (const TestRequest& request : requests) {
    CHECK(status_of(*machine.driver, request) == 0);
  }
}

TEST_CASE("quiesce waits for the requests in flight and starts no other until resume") {
  SlowMachine machine(slow_file());
  machine.add_reads(10);
  machine.driver->notify(0);
  auto quiesced = std::async(std::launch::async, [&] { machine.transport->quiesce(); });
  CHECK(quiesced.wait_for(std::chrono::milliseconds(20)) == std::future_status::timeout);
  machine.executor.run_all();
  quiesced.get();
  const uint16_t done = machine.driver->queue(0).used_index();
  CHECK(done >= block::BlockDevice::kMaxJobs);
  CHECK(done < 10);
  CHECK(machine.transport->save().ok());
  CHECK(machine.executor.waiting() == 0);
  machine.transport->resume();
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 10);
}

TEST_CASE("a chain that breaks the queue while others are in flight lets these end in silence") {
  SlowMachine machine(slow_file());
  machine.add_reads(3);
  machine.driver->queue(0).make_available(0x7fff);
  machine.driver->notify(0);
  CHECK(machine.driver->needs_reset());
  const uint64_t irqs = machine.irq.count();
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 0);
  CHECK(machine.irq.count() == irqs);
  REQUIRE(machine.driver->bring_up());
}

TEST_CASE("host errors become I/O errors of their request, and the next one succeeds") {
  SlowMachine machine(slow_file());
  const auto fails_with = [&](sys::Call call, int error, uint32_t type, uint32_t bytes) {
    sys::FaultPlan plan(call, 1, error);
    plan.arm();
    const TestRequest request =
        add_request(machine.driver.get(), type, 0, bytes, type == block::kTypeIn);
    machine.driver->notify(0);
    machine.executor.run_all();
    CHECK(plan.fired());
    return status_of(*machine.driver, request);
  };
  CHECK(fails_with(sys::Call::kPread, EIO, block::kTypeIn, 512) == 1);
  CHECK(fails_with(sys::Call::kPwrite, ENOSPC, block::kTypeOut, 512) == 1);
  CHECK(fails_with(sys::Call::kFsync, EIO, block::kTypeFlush, 0) == 1);
  CHECK_FALSE(machine.driver->needs_reset());
  const auto requests = machine.add_reads(1);
  machine.driver->notify(0);
  machine.executor.run_all();
  CHECK(status_of(*machine.driver, requests[0]) == 0);
  CHECK(machine.driver->queue(0).used_index() == 4);
}

TEST_CASE("a request after one that the pace answers with a time is taken then, not before") {
  std::vector<uint64_t> asked;
  SlowMachine machine(slow_file(), [&](uint64_t bytes) {
    asked.push_back(bytes);
    return asked.size() == 2 ? uint64_t{5'000} : 0;
  });
  const auto requests = machine.add_reads(4);
  machine.driver->notify(0);
  machine.executor.run_all();
  CHECK(asked == std::vector<uint64_t>{4096, 4096});
  CHECK(machine.driver->queue(0).used_index() == 2);
  CHECK(machine.executor.due() == std::vector<uint64_t>{5'000});
  machine.driver->notify(0);
  machine.executor.run_due(4'999);
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 2);
  machine.executor.run_due(5'000);
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 4);
}

TEST_CASE("a large transfer counts as what it moves, a flush and each range as a page") {
  std::vector<uint64_t> asked;
  SlowMachine machine(slow_file(), [&](uint64_t bytes) {
    asked.push_back(bytes);
    return uint64_t{0};
  });
  add_request(machine.driver.get(), block::kTypeOut, 0, 8192, false);
  add_request(machine.driver.get(), block::kTypeFlush, 0, 0, false);
  // Three ranges of nothing.
  add_request(machine.driver.get(), block::kTypeWriteZeroes, 0, 3 * sizeof(block::RangeSegment),
              false);
  machine.driver->notify(0);
  machine.executor.run_all();
  CHECK(asked == std::vector<uint64_t>{8192, 4096, 3 * 4096});
}

TEST_CASE("a driver that resets the device does not get past the wait") {
  SlowMachine machine(slow_file(), [](uint64_t) { return uint64_t{5'000}; });
  machine.add_reads(1);
  machine.driver->notify(0);
  machine.executor.run_all();
  REQUIRE(machine.driver->queue(0).used_index() == 1);
  REQUIRE(machine.driver->bring_up());
  machine.add_reads(1);
  machine.driver->notify(0);
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 0);
  CHECK(machine.executor.due().size() == 1);
  machine.executor.run_due(5'000);
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 1);
}

TEST_CASE("a paced device that waits quiesces at once, and goes on after the wait") {
  SlowMachine machine(slow_file(), [](uint64_t) { return uint64_t{5'000}; });
  machine.add_reads(2);
  machine.driver->notify(0);
  machine.executor.run_all();
  machine.transport->quiesce();
  CHECK(machine.transport->save().ok());
  machine.executor.run_due(5'000);
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 1);
  machine.transport->resume();
  machine.executor.run_all();
  CHECK(machine.driver->queue(0).used_index() == 2);
}

TEST_CASE("a wait whose device has gone ends in nothing") {
  ManualExecutor executor;
  {
    SlowMachine machine(slow_file(), [](uint64_t) { return uint64_t{5'000}; });
    machine.add_reads(1);
    machine.driver->notify(0);
    machine.executor.run_all();
    machine.executor.hand_over(&executor);
  }
  executor.run_due(5'000);
  executor.run_all();
  CHECK(executor.due().empty());
}

TEST_CASE("a disk file that was cut short gives I/O errors, not zeros and not a signal") {
  const auto file = slow_file();
  SlowMachine machine(file);
  must(sys::ftruncate(file->fd(), 700, "cut"));
  const TestRequest request = add_request(machine.driver.get(), block::kTypeIn, 0, 1024, true);
  machine.driver->notify(0);
  machine.executor.run_all();
  CHECK(status_of(*machine.driver, request) == 1);
}

TEST_CASE("images that are no disk are refused with their size") {
  UniqueFd empty = must(create_memfd("empty", 0));
  const auto status =
      block::DiskFile::adopt(std::move(empty), "root.img", block::Access::kReadOnly).status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(status.message().find("root.img") != absl::string_view::npos);
  CHECK(block::DiskFile::open("/nonexistent/root.img", block::Access::kReadOnly).status().code() ==
        absl::StatusCode::kNotFound);
}
