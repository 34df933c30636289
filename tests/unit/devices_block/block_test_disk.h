// Disks and requests for the block tests.
#ifndef RAMET_TESTS_UNIT_DEVICES_BLOCK_BLOCK_TEST_DISK_H_
#define RAMET_TESTS_UNIT_DEVICES_BLOCK_BLOCK_TEST_DISK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "devices/block/cow_backend.h"
#include "devices/block/device.h"
#include "devices/block/file_backend.h"
#include "devices/block/layer_stack.h"
#include "tests/support/virtio_driver.h"
#include "vmm/base/syscall.h"

namespace ramet::testing {

// Byte i of the disk is a function of its place and of `salt`.
inline std::byte pattern(uint64_t offset, uint8_t salt = 0) {
  return static_cast<std::byte>((offset >> 9) * 31 + offset * 7 + salt);
}
inline std::vector<std::byte> pattern_bytes(uint64_t offset, size_t size, uint8_t salt = 0) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = pattern(offset + i, salt);
  }
  return bytes;
}

inline std::shared_ptr<const block::DiskFile> make_disk_file(
    uint64_t size, block::Access access = block::Access::kReadOnly) {
  UniqueFd fd = must(create_memfd("test-disk", size));
  must(sys::pwrite_all(fd.get(), pattern_bytes(0, size), 0, "fill the test disk"));
  return must(block::DiskFile::adopt(std::move(fd), "test disk", access));
}

// Reads and writes a backend through a slice of guest memory cut into odd pieces.
class DiskProbe {
 public:
  StatusOr<std::vector<std::byte>> read(block::Backend* disk, uint64_t offset, size_t size) {
    virtio::Writer writer(memory_.get(), slices(size));
    if (const Status status = disk->read(offset, size, &writer); !status.ok()) {
      return status;
    }
    std::vector<std::byte> bytes(size);
    must(memory_->read(GuestAddr{kStart}, bytes));
    return bytes;
  }
  Status write(block::Backend* disk, uint64_t offset, std::span<const std::byte> bytes) {
    must(memory_->write(GuestAddr{kStart}, bytes));
    virtio::Reader reader(memory_.get(), slices(bytes.size()));
    return disk->write(offset, bytes.size(), &reader);
  }

 private:
  static constexpr uint64_t kStart = 0x1000;
  static virtio::Slices slices(uint64_t size) {
    virtio::Slices result;
    for (uint64_t at = 0, part = 512; at < size; at += part, part = 1536) {
      part = std::min(part, size - at);
      result.push_back({GuestAddr{kStart + at}, part});
    }
    return result;
  }
  std::unique_ptr<GuestMemory> memory_ = make_guest_memory(2 << 20);
};

// A virtio-blk request in guest memory.
struct TestRequest {
  GuestAddr header;
  GuestAddr data;
  GuestAddr status;
  uint16_t head = 0;
};

inline TestRequest add_request(VirtioDriver* driver, uint32_t type, uint64_t sector, uint32_t bytes,
                               bool device_writes) {
  TestRequest request;
  request.header = driver->allocate(4096);
  request.status = GuestAddr{request.header.value + 64};
  request.data = driver->allocate(bytes);
  must(driver->memory().write_object(request.header, block::RequestHeader{type, 0, sector}));
  must(driver->memory().write_object(request.status, uint8_t{0xee}));
  if (bytes == 0) {
    request.head = driver->queue(0).add({{request.header, 16, false}, {request.status, 1, true}});
  } else {
    request.head = driver->queue(0).add({{request.header, 16, false},
                                         {request.data, bytes, device_writes},
                                         {request.status, 1, true}});
  }
  return request;
}

inline uint8_t status_of(const VirtioDriver& driver, const TestRequest& request) {
  return must(driver.memory().read_object<uint8_t>(request.status));
}
inline std::vector<std::byte> data_of(const VirtioDriver& driver, const TestRequest& request,
                                      size_t size) {
  std::vector<std::byte> bytes(size);
  must(driver.memory().read(request.data, bytes));
  return bytes;
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_DEVICES_BLOCK_BLOCK_TEST_DISK_H_
