#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/device_contract.h"
#include "tests/unit/devices_block/block_test_disk.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

// Reads of a shared disk: 6 at a time, more than kMaxJobs. `Jobs` decides whether they run on
// the thread that notifies or as jobs.
template <bool Jobs>
class BlockHarness {
 public:
  static constexpr uint16_t kBreakableQueue = 0;
  static constexpr int kRequests = 6;
  static constexpr uint32_t kBytes = 3 * 512;

  std::unique_ptr<virtio::VirtioDevice> make() {
    return must(block::BlockDevice::create(backend(), options()));
  }
  StatusOr<std::unique_ptr<virtio::VirtioDevice>> restore(std::span<const std::byte> bytes) {
    return block::BlockDevice::create_from_state(backend(), options(), bytes);
  }
  void start_work(VirtioDriver* driver) {
    started_.clear();
    for (int i = 0; i < kRequests; ++i) {
      started_.push_back(
          add_request(driver, block::kTypeIn, static_cast<uint64_t>(i), kBytes, true));
    }
    driver->notify(0);
  }
  void finish_work(VirtioDriver* driver) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for (int done = 0; done < kRequests;) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      if (const auto used = driver->queue(0).take_used()) {
        CHECK(used->length == kBytes + 1);
        ++done;
      } else {
        std::this_thread::yield();
      }
    }
    for (int i = 0; i < kRequests; ++i) {
      const TestRequest& request = started_[static_cast<size_t>(i)];
      CHECK(status_of(*driver, request) == 0);
      CHECK(data_of(*driver, request, kBytes) ==
            pattern_bytes(static_cast<uint64_t>(i) * 512, kBytes));
    }
  }

 private:
  std::unique_ptr<block::Backend> backend() { return std::make_unique<block::FileBackend>(file_); }
  block::BlockOptions options() { return {"contract", Jobs ? &executor_ : nullptr}; }

  ThreadExecutor executor_;
  std::shared_ptr<const block::DiskFile> file_ = make_disk_file(64 * 512, block::Access::kReadOnly);
  std::vector<TestRequest> started_;
};

using InlineBlock = BlockHarness<false>;
using ExecutorBlock = BlockHarness<true>;

}  // namespace

RAMET_VIRTIO_DEVICE_CONTRACT("inline block", InlineBlock)
RAMET_VIRTIO_DEVICE_CONTRACT("executor block", ExecutorBlock)
