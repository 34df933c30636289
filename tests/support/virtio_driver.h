// The driver's side of virtio for tests: guest memory, interrupt lines and executors to look into,
// and a driver that goes through the MMIO registers and the rings as a guest does, or as it must
// not.
//
// Thread rule: one thread per object, but for CountingIrq and the executors.
// Invariant: nothing here is checked by the code under test: rings are written byte by byte. What
// cannot fail in a sound test throws.
#ifndef RAMET_TESTS_SUPPORT_VIRTIO_DRIVER_H_
#define RAMET_TESTS_SUPPORT_VIRTIO_DRIVER_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "devices/virtio/abi.h"
#include "devices/virtio/executor.h"
#include "devices/virtio/queue_config.h"
#include "vmm/bus/device.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/mapping.h"

namespace ramet::testing {

inline void must(const Status& status) {
  if (!status.ok()) {
    throw std::runtime_error(status.ToString());
  }
}
template <typename T>
T must(StatusOr<T> value) {
  must(value.status());
  return *std::move(value);
}

// `size` bytes of RAM from address 0, in a memfd of its own.
inline std::unique_ptr<GuestMemory> make_guest_memory(uint64_t size = 4 << 20) {
  const UniqueFd fd = must(create_memfd("test-memory", size));
  const MemoryRegion region{GuestAddr{0}, size, 0};
  return must(GuestMemory::create(fd.get(), {&region, 1}, MapMode::kShared));
}

class CountingIrq final : public IrqLine {
 public:
  void trigger() override { ++count_; }
  uint64_t count() const { return count_; }

 private:
  std::atomic<uint64_t> count_{0};
};

// Keeps jobs until the test runs them.
class ManualExecutor final : public virtio::Executor {
 public:
  void post(std::function<void()> job) override {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  void post_at(uint64_t due_ns, std::function<void()> job) override {
    const std::lock_guard lock(mutex_);
    later_.emplace(due_ns, std::move(job));
  }
  size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return jobs_.size();
  }
  // When each that was posted for later is due, in order.
  std::vector<uint64_t> due() const {
    const std::lock_guard lock(mutex_);
    std::vector<uint64_t> times;
    for (const auto& [time, job] : later_) {
      times.push_back(time);
    }
    return times;
  }
  // What is posted for later goes to another, which may outlive this one's devices.
  void hand_over(ManualExecutor* other) { other->later_.swap(later_); }
  // It is `now_ns`.
  void run_due(uint64_t now_ns) {
    const std::lock_guard lock(mutex_);
    while (!later_.empty() && later_.begin()->first <= now_ns) {
      jobs_.push_back(std::move(later_.begin()->second));
      later_.erase(later_.begin());
    }
  }
  // Runs the oldest job; false when there is none.
  bool run_one() {
    std::function<void()> job;
    {
      const std::lock_guard lock(mutex_);
      if (jobs_.empty()) {
        return false;
      }
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
    return true;
  }
  void run_all() {
    while (run_one()) {
    }
  }

 private:
  mutable std::mutex mutex_;
  std::deque<std::function<void()>> jobs_;
  std::multimap<uint64_t, std::function<void()>> later_;
};

// Runs jobs on threads of its own, until its end.
class ThreadExecutor final : public virtio::Executor {
 public:
  explicit ThreadExecutor(int threads = 2) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { loop(); });
    }
  }
  ~ThreadExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  void post(std::function<void()> job) override {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    changed_.notify_one();
  }
  void post_at(uint64_t due_ns, std::function<void()> job) override {
    post([due_ns, job = std::move(job)] {
      std::this_thread::sleep_until(
          std::chrono::steady_clock::time_point(std::chrono::nanoseconds(due_ns)));
      job();
    });
  }

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) {
        return;
      }
      const auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  bool stop_ = false;
};

// One buffer of a chain.
struct DriverBuffer {
  GuestAddr address;
  uint32_t length = 0;
  bool device_writes = false;
};

// The driver's side of one split virtqueue. Addresses are free for a test to break.
class DriverQueue {
 public:
  DriverQueue(const GuestMemory* memory, virtio::QueueLayout layout)
      : memory_(memory), layout_(layout) {}

  const virtio::QueueLayout& layout() const { return layout_; }

  void write_descriptor(uint16_t index, const virtio::Descriptor& descriptor) {
    must(memory_->write_object(at(layout_.desc, uint64_t{index} * 16), descriptor));
  }

  // Writes the chain into free descriptors and makes it available; returns its head.
  uint16_t add(std::span<const DriverBuffer> buffers) {
    const uint16_t head = next_descriptor_;
    for (size_t i = 0; i < buffers.size(); ++i) {
      const uint16_t index = next_descriptor_;
      next_descriptor_ = static_cast<uint16_t>((next_descriptor_ + 1) % layout_.size);
      const bool last = i + 1 == buffers.size();
      const int flags =
          (last ? 0 : virtio::kDescNext) | (buffers[i].device_writes ? virtio::kDescWrite : 0);
      write_descriptor(index, {buffers[i].address.value, buffers[i].length,
                               static_cast<uint16_t>(flags), next_descriptor_});
    }
    make_available(head);
    return head;
  }
  uint16_t add(std::initializer_list<DriverBuffer> buffers) {
    return add(std::span<const DriverBuffer>(buffers.begin(), buffers.size()));
  }

  void make_available(uint16_t head) {
    must(memory_->write_object(at(layout_.avail, 4 + 2 * uint64_t(avail_ % layout_.size)), head));
    set_avail_index(static_cast<uint16_t>(avail_ + 1));
  }
  void set_avail_index(uint16_t index) {
    avail_ = index;
    must(memory_->store_release_u16(at(layout_.avail, 2), index));
  }
  void set_avail_flags(uint16_t flags) { must(memory_->store_release_u16(layout_.avail, flags)); }
  // The used index at which the next interrupt is wanted (VIRTIO_F_EVENT_IDX).
  void set_used_event(uint16_t index) {
    must(memory_->store_release_u16(at(layout_.avail, 4 + 2 * uint64_t{layout_.size}), index));
  }

  uint16_t avail_index() const { return avail_; }
  uint16_t used_index() const { return must(memory_->load_acquire_u16(at(layout_.used, 2))); }
  uint16_t used_flags() const { return must(memory_->load_acquire_u16(layout_.used)); }
  uint16_t avail_event() const {
    return must(memory_->load_acquire_u16(at(layout_.used, 4 + 8 * uint64_t{layout_.size})));
  }
  // The next used element that was not taken yet.
  std::optional<virtio::UsedElement> take_used() {
    if (seen_used_ == used_index()) {
      return std::nullopt;
    }
    const uint64_t slot = seen_used_++ % layout_.size;
    return must(memory_->read_object<virtio::UsedElement>(at(layout_.used, 4 + 8 * slot)));
  }

 private:
  static GuestAddr at(GuestAddr start, uint64_t offset) { return GuestAddr{start.value + offset}; }

  const GuestMemory* memory_;
  virtio::QueueLayout layout_;
  uint16_t next_descriptor_ = 0;
  uint16_t avail_ = 0;
  uint16_t seen_used_ = 0;
};

// A driver in front of one virtio-mmio device.
class VirtioDriver {
 public:
  VirtioDriver(const GuestMemory* memory, BusDevice* device) : memory_(memory), device_(device) {}

  // From now on the registers are those of another transport (a restored one).
  void attach(BusDevice* device) { device_ = device; }

  uint32_t read32(uint64_t offset) {
    uint32_t value = 0;
    device_->bus_read(offset, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void write32(uint64_t offset, uint32_t value) {
    device_->bus_write(offset, std::as_bytes(std::span(&value, 1)));
  }
  uint32_t status() { return read32(virtio::reg::kStatus); }
  void add_status(uint32_t bits) { write32(virtio::reg::kStatus, status() | bits); }
  bool needs_reset() { return (status() & virtio::kStatusNeedsReset) != 0; }

  uint64_t device_features() {
    write32(virtio::reg::kDeviceFeaturesSel, 0);
    const uint64_t low = read32(virtio::reg::kDeviceFeatures);
    write32(virtio::reg::kDeviceFeaturesSel, 1);
    return low | (uint64_t{read32(virtio::reg::kDeviceFeatures)} << 32);
  }
  void write_features(uint64_t features) {
    for (uint32_t half = 0; half < 2; ++half) {
      write32(virtio::reg::kDriverFeaturesSel, half);
      write32(virtio::reg::kDriverFeatures, static_cast<uint32_t>(features >> (32 * half)));
    }
  }

  // Steps 1 to 6 of virtio 1.2, 3.1.1, with all features but `without`. False when the device
  // refused them.
  bool negotiate(uint64_t without = 0) {
    write32(virtio::reg::kStatus, 0);
    queues_.clear();
    next_free_ = kFirstFree;
    add_status(virtio::kStatusAcknowledge);
    add_status(virtio::kStatusDriver);
    write_features(device_features() & ~without);
    add_status(virtio::kStatusFeaturesOk);
    return (status() & virtio::kStatusFeaturesOk) != 0;
  }

  void program_queue(uint32_t index, const virtio::QueueLayout& layout) {
    write32(virtio::reg::kQueueSel, index);
    write32(virtio::reg::kQueueNum, layout.size);
    write_address(virtio::reg::kQueueDescLow, layout.desc);
    write_address(virtio::reg::kQueueDriverLow, layout.avail);
    write_address(virtio::reg::kQueueDeviceLow, layout.used);
    write32(virtio::reg::kQueueReady, 1);
  }
  bool queue_ready(uint32_t index) {
    write32(virtio::reg::kQueueSel, index);
    return read32(virtio::reg::kQueueReady) == 1;
  }
  uint16_t queue_max(uint32_t index) {
    write32(virtio::reg::kQueueSel, index);
    return static_cast<uint16_t>(read32(virtio::reg::kQueueNumMax));
  }

  // Sets all queues up, of at most `max_size` entries each, in zeroed memory.
  void set_up_queues(uint16_t max_size = virtio::kMaxQueueSize) {
    for (uint32_t i = 0; queue_max(i) != 0; ++i) {
      virtio::QueueLayout layout;
      layout.size = std::min(queue_max(i), max_size);
      layout.desc = allocate(virtio::desc_bytes(layout.size));
      layout.avail = allocate(virtio::avail_bytes(layout.size));
      layout.used = allocate(virtio::used_bytes(layout.size));
      queues_.emplace_back(memory_, layout);
      program_queue(i, layout);
    }
  }

  // From reset to DRIVER_OK. False when the device did not come up.
  bool bring_up(uint64_t without = 0, uint16_t max_size = virtio::kMaxQueueSize) {
    if (!negotiate(without)) {
      return false;
    }
    set_up_queues(max_size);
    add_status(virtio::kStatusDriverOk);
    return status() == (virtio::kStatusAcknowledge | virtio::kStatusDriver |
                        virtio::kStatusFeaturesOk | virtio::kStatusDriverOk);
  }

  void notify(uint32_t queue) { write32(virtio::reg::kQueueNotify, queue); }
  uint32_t take_interrupts() {
    const uint32_t bits = read32(virtio::reg::kInterruptStatus);
    write32(virtio::reg::kInterruptAck, bits);
    return bits;
  }

  DriverQueue& queue(size_t index) { return queues_.at(index); }
  const GuestMemory& memory() const { return *memory_; }

  // Zeroed memory for buffers, page-aligned; all of it is free again after negotiate().
  GuestAddr allocate(uint64_t bytes) {
    const GuestAddr result{next_free_};
    must(memory_->fill_zero({result, bytes}));
    next_free_ += (bytes + kPageSize - 1) / kPageSize * kPageSize;
    return result;
  }

 private:
  static constexpr uint64_t kFirstFree = 0x10000;

  void write_address(uint64_t low_register, GuestAddr address) {
    write32(low_register, static_cast<uint32_t>(address.value));
    write32(low_register + 4, static_cast<uint32_t>(address.value >> 32));
  }

  const GuestMemory* memory_;
  BusDevice* device_;
  std::vector<DriverQueue> queues_;
  uint64_t next_free_ = kFirstFree;
};

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_VIRTIO_DRIVER_H_
