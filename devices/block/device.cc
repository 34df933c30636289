#include "devices/block/device.h"

#include <algorithm>

#include <absl/strings/str_format.h>

#include "devices/block/state.h"

namespace ramet::block {
namespace {

constexpr std::array<uint16_t, 1> kQueueSizes = {BlockDevice::kQueueSize};
constexpr uint32_t kLogicalBlock = 512;
constexpr uint8_t kPhysicalBlockExp = 3;  // 4 KiB, the unit of an overlay

}  // namespace

BlockDevice::BlockDevice(std::unique_ptr<Backend> backend, const BlockOptions& options)
    : backend_(std::move(backend)),
      disk_{backend_->size_bytes(), backend_->read_only()},
      executor_(options.executor),
      pace_(options.executor == nullptr ? nullptr : options.pace),
      wake_(std::make_shared<Wake>()) {
  wake_->device = this;
  std::transform(options.id.begin(),
                 options.id.begin() + static_cast<ptrdiff_t>(std::min(options.id.size(), kIdBytes)),
                 id_.begin(), [](char c) { return static_cast<std::byte>(c); });
}

StatusOr<std::unique_ptr<BlockDevice>> BlockDevice::create(std::unique_ptr<Backend> backend,
                                                           const BlockOptions& options) {
  const uint64_t size = backend->size_bytes();
  if (size == 0 || size % kSectorBytes != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "block device of %d bytes, must be a number of %d-byte sectors", size, kSectorBytes));
  }
  return std::unique_ptr<BlockDevice>(new BlockDevice(std::move(backend), options));
}

StatusOr<std::unique_ptr<BlockDevice>> BlockDevice::create_from_state(
    std::unique_ptr<Backend> backend, const BlockOptions& options,
    std::span<const std::byte> state) {
  RAMET_ASSIGN_OR_RETURN(const BlockState saved, decode_state(state));
  RAMET_ASSIGN_OR_RETURN(auto device, create(std::move(backend), options));
  if (saved.capacity_bytes != device->disk_.size_bytes ||
      saved.read_only != device->disk_.read_only) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "block device saved with %d bytes, read-only %d; its disk has %d bytes, read-only %d",
        saved.capacity_bytes, saved.read_only, device->disk_.size_bytes, device->disk_.read_only));
  }
  device->id_ = saved.id;
  device->quiesced_ = true;
  return device;
}

BlockDevice::~BlockDevice() {
  {
    const std::lock_guard lock(wake_->mutex);
    wake_->device = nullptr;
  }
  reset();
}

uint64_t BlockDevice::features() const {
  const uint64_t always =
      kFeatureSizeMax | kFeatureSegMax | kFeatureBlkSize | kFeatureFlush | kFeatureTopology;
  return always | (disk_.read_only ? kFeatureReadOnly : kFeatureDiscard | kFeatureWriteZeroes);
}

std::span<const uint16_t> BlockDevice::queue_max_sizes() const { return kQueueSizes; }

void BlockDevice::read_config(uint64_t offset, std::span<std::byte> into) {
  Config config;
  config.capacity = disk_.size_bytes / kSectorBytes;
  config.size_max = kMaxSegmentBytes;
  config.seg_max = kMaxSegments;
  config.blk_size = kLogicalBlock;
  config.physical_block_exp = kPhysicalBlockExp;
  config.num_queues = 1;
  if (!disk_.read_only) {
    config.max_discard_sectors = kMaxRangeSectors;
    config.max_discard_seg = kMaxRangeSegments;
    config.discard_sector_alignment = kBlockBytes / kSectorBytes;
    config.max_write_zeroes_sectors = kMaxRangeSectors;
    config.max_write_zeroes_seg = kMaxRangeSegments;
    config.write_zeroes_may_unmap = 1;
  }
  virtio::read_config_bytes(std::as_bytes(std::span(&config, 1)), offset, into);
}

// 5.2.4: `writeback` alone could be written, with VIRTIO_BLK_F_CONFIG_WCE, which is not offered.
void BlockDevice::write_config(uint64_t, std::span<const std::byte>) {}

Status BlockDevice::activate(virtio::Activation activation) {
  const std::lock_guard lock(mutex_);
  if (events_ != nullptr) {
    return absl::FailedPreconditionError("block device: activated while it is active");
  }
  if (activation.queues.size() != 1 || !activation.queues[0]) {
    return absl::FailedPreconditionError("block device: activated without its queue");
  }
  queue_ = activation.queues[0];
  events_ = activation.events;
  failed_ = false;
  return Status();
}

void BlockDevice::notify(uint16_t) {
  const std::lock_guard lock(mutex_);
  work();
}

void BlockDevice::work() {
  if (events_ == nullptr || quiesced_ || failed_) {
    return;
  }
  const auto available = queue_->begin_batch();
  const Status status = available.ok() ? pump() : available.status();
  if (!status.ok()) {
    fail(status);
  }
}

// Takes what the batch holds and the limits allow; what is left waits for a job to end, or a wake.
uint64_t BlockDevice::paced_bytes(const Request& request) {
  const uint64_t least = kLeastPacedBytes * std::max<uint64_t>(request.ranges.size(), 1);
  return std::max(request.range.bytes, least);
}

Status BlockDevice::pump() {
  bool more = true;
  while (more && jobs_ < kMaxJobs && !waiting_ && !quiesced_ && !failed_ && !resetting_) {
    auto taken = take_next();
    if (!taken.ok()) {
      signal_used();  // what was done before the broken chain
      return taken.status();
    }
    more = *taken;
  }
  signal_used();
  return Status();
}

StatusOr<bool> BlockDevice::take_next() {
  RAMET_ASSIGN_OR_RETURN(const std::optional<virtio::Chain> chain, queue_->pop());
  if (!chain) {
    return false;
  }
  RAMET_ASSIGN_OR_RETURN(Request request, parse_request(*chain, disk_));
  if (executor_ == nullptr) {
    RAMET_ASSIGN_OR_RETURN(const uint32_t written, execute_request(&request, context()));
    RAMET_RETURN_IF_ERROR(queue_->push_used(request.head, written));
    return true;
  }
  if (const uint64_t until = pace_ ? pace_(paced_bytes(request)) : 0; until != 0) {
    wait_for_pace(until);
  }
  ++jobs_;
  // std::function wants something that can be copied.
  executor_->post([this, job = std::make_shared<Request>(std::move(request))] { run_job(job); });
  return true;
}

void BlockDevice::wait_for_pace(uint64_t until_ns) {
  waiting_ = true;
  executor_->post_at(until_ns, [wake = wake_] {
    const std::lock_guard lock(wake->mutex);
    if (BlockDevice* device = wake->device) {
      const std::lock_guard device_lock(device->mutex_);
      device->waiting_ = false;
      device->work();
    }
  });
}

void BlockDevice::run_job(const std::shared_ptr<Request>& request) {
  const auto written = execute_request(request.get(), context());
  const std::lock_guard lock(mutex_);
  --jobs_;
  if (!failed_) {
    Status status = written.status();
    if (written.ok()) {
      status = queue_->push_used(request->head, *written);
    }
    status = status.ok() ? pump() : status;
    if (!status.ok()) {
      fail(status);
    }
  }
  // Under the mutex: the one who waits may destroy the device as soon as it has it.
  jobs_done_.notify_all();
}

void BlockDevice::signal_used() {
  const auto wanted = queue_->should_interrupt();
  if (wanted.ok() && *wanted) {
    events_->queue_interrupt(0);
  }
}

void BlockDevice::fail(const Status& why) {
  failed_ = true;
  ++metrics_.broken_rings;
  events_->needs_reset(annotate(why, "block device"));
}

void BlockDevice::wait_for_jobs(std::unique_lock<std::mutex>* lock) {
  jobs_done_.wait(*lock, [this] { return jobs_ == 0; });
}

void BlockDevice::reset() {
  std::unique_lock lock(mutex_);
  resetting_ = true;
  wait_for_jobs(&lock);
  resetting_ = false;
  events_ = nullptr;
  queue_.reset();
  failed_ = false;
}

void BlockDevice::quiesce() {
  std::unique_lock lock(mutex_);
  quiesced_ = true;
  wait_for_jobs(&lock);
}

void BlockDevice::resume() {
  const std::lock_guard lock(mutex_);
  quiesced_ = false;
  // Chains of a batch that quiesce() cut short, and those that came since.
  work();
}

StatusOr<virtio::SavedDevice> BlockDevice::save() const {
  const std::lock_guard lock(mutex_);
  if ((events_ != nullptr && !quiesced_ && !failed_) || jobs_ != 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("block device: saved while running, %d requests in flight", jobs_));
  }
  const uint16_t position = queue_ ? queue_->position() : uint16_t{0};
  return virtio::SavedDevice{{position}, encode_state({disk_.size_bytes, disk_.read_only, id_})};
}

}  // namespace ramet::block
