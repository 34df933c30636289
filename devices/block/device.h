// BlockDevice: virtio-blk (virtio 1.2, 5.2) with one queue over a Backend.
//
// Thread rule: as VirtioDevice. mutex_ guards the queue; requests of a backend that may block run
// on the executor, at most kMaxJobs at a time, without the mutex. Invariant: every chain that was
// popped is pushed exactly once, unless the device failed or was reset; quiesced means no job is in
// flight. A wait that the pace asked for outlives a reset of the device.
#ifndef RAMET_DEVICES_BLOCK_DEVICE_H_
#define RAMET_DEVICES_BLOCK_DEVICE_H_

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "devices/block/abi.h"
#include "devices/block/backend.h"
#include "devices/block/metrics.h"
#include "devices/block/request.h"
#include "devices/virtio/device.h"
#include "devices/virtio/executor.h"

namespace ramet::block {

struct BlockOptions {
  // What VIRTIO_BLK_T_GET_ID answers, cut to 20 bytes; udev shows it as the disk's serial.
  std::string id;
  // Runs the requests, which may block; outlives the device. Without one, they run on the thread
  // that notifies.
  virtio::Executor* executor = nullptr;
  // Is told of each request, and of how many bytes it reads or writes, and says until when the next
  // one is to wait (CLOCK_MONOTONIC; 0: it need not). Whatever a request does, and each range that
  // it discards or zeroes, counts as BlockDevice::kLeastPacedBytes at least. Called with the
  // device's lock held, by a device with an executor. None: no request waits.
  std::function<uint64_t(uint64_t bytes)> pace = {};
};

class BlockDevice final : public virtio::VirtioDevice {
 public:
  static constexpr uint16_t kQueueSize = 128;
  static constexpr uint32_t kMaxJobs = 4;
  // A page of the host's: less is no less work.
  static constexpr uint64_t kLeastPacedBytes = 4096;

  static StatusOr<std::unique_ptr<BlockDevice>> create(std::unique_ptr<Backend> backend,
                                                       const BlockOptions& options);
  // The device that save() described: quiesced until resume(). FailedPrecondition when the backend
  // has another size or writability; the id is the saved one.
  static StatusOr<std::unique_ptr<BlockDevice>> create_from_state(std::unique_ptr<Backend> backend,
                                                                  const BlockOptions& options,
                                                                  std::span<const std::byte> state);
  ~BlockDevice() override;

  virtio::DeviceType type() const override { return virtio::DeviceType::kBlock; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_max_sizes() const override;
  void read_config(uint64_t offset, std::span<std::byte> into) override;
  void write_config(uint64_t offset, std::span<const std::byte> from) override;
  Status activate(virtio::Activation activation) override;
  void notify(uint16_t index) override;
  void reset() override;
  void quiesce() override;
  void resume() override;
  StatusOr<virtio::SavedDevice> save() const override;
  std::vector<virtio::Metric> metrics() const override { return metrics_.list(); }

  Backend* backend() const { return backend_.get(); }

 private:
  BlockDevice(std::unique_ptr<Backend> backend, const BlockOptions& options);

  // With mutex_ held:
  void work();
  Status pump();
  StatusOr<bool> take_next();
  void signal_used();
  void fail(const Status& why);
  void wait_for_jobs(std::unique_lock<std::mutex>* lock);

  void run_job(const std::shared_ptr<Request>& request);
  static uint64_t paced_bytes(const Request& request);
  void wait_for_pace(uint64_t until_ns);
  ExecuteContext context() { return {backend_.get(), &id_, &metrics_}; }

  // What a job that was posted for later knows of the device: it may find it gone.
  struct Wake {
    std::mutex mutex;  // before the device's
    BlockDevice* device = nullptr;
  };

  const std::unique_ptr<Backend> backend_;
  const DiskView disk_;
  virtio::Executor* const executor_;
  const std::function<uint64_t(uint64_t bytes)> pace_;
  const std::shared_ptr<Wake> wake_;
  std::array<std::byte, kIdBytes> id_ = {};
  BlockMetrics metrics_;

  mutable std::mutex mutex_;
  std::condition_variable jobs_done_;
  virtio::TransportEvents* events_ = nullptr;  // null while Inactive
  std::optional<virtio::Queue> queue_;
  uint32_t jobs_ = 0;
  bool quiesced_ = false;
  bool failed_ = false;
  bool resetting_ = false;
  bool waiting_ = false;  // for a wake: no request before
};

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_DEVICE_H_
