#include "lib/helper/wire/bounds.h"

#include <algorithm>
#include <limits>

namespace ramet::helper {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
// Besides the guest's: stacks, buffers of at most 1,023 conversations of 128 KiB and as much for
// their vsock connections.
constexpr uint64_t kOwnMemory = uint64_t{512} << 20;
// Page tables of the process and of KVM: 8 bytes of each for 4 KiB.
constexpr uint64_t kBytesPerTableByte = 256;
// For a helper's start, which takes tens of milliseconds, and because RLIMIT_CPU is in seconds.
constexpr uint64_t kOwnSeconds = 2;

uint64_t plus(uint64_t a, uint64_t b) {
  return a > std::numeric_limits<uint64_t>::max() - b ? std::numeric_limits<uint64_t>::max()
                                                      : a + b;
}

uint64_t smaller_limit(uint64_t limit, uint64_t size) {
  return limit == 0 ? size : std::min(limit, size);
}

}  // namespace

HelperBounds bounds_of(const InstanceLimits& limits, uint64_t guest_bytes, uint32_t vcpus,
                       uint64_t overlay_bytes) {
  HelperBounds bounds;
  bounds.data_bytes = plus(guest_bytes, kOwnMemory);
  if (limits.cpu_ns != 0) {
    // As much again for what devices do on its behalf.
    bounds.cpu_seconds = plus(limits.cpu_ns / kSecondNs * 2, kOwnSeconds + 2);
  }
  // Pages of the template that nobody touched before count for who touches them first; so does a
  // disk's overlay, in memory or as the kernel's cache of its file.
  const uint64_t own = smaller_limit(limits.private_bytes, guest_bytes);
  const uint64_t overlay = smaller_limit(limits.disk_bytes, overlay_bytes);
  bounds.memory_bytes = plus(
      plus(plus(guest_bytes, own), plus(overlay, guest_bytes / kBytesPerTableByte)), kOwnMemory);
  const uint64_t rate = smaller_limit(limits.rates.cpu.per_second, vcpus * kSecondNs);
  bounds.cpu_ns_per_second = rate + rate / 4;
  bounds.io_bytes_per_second = plus(limits.disk_rate.per_second, limits.disk_rate.per_second / 4);
  return bounds;
}

}  // namespace ramet::helper
