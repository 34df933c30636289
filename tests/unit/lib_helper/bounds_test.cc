// What a helper process may use all in all: above what its guest may, and never without a bound.
#include "lib/helper/wire/bounds.h"

#include <limits>

#include <catch2/catch.hpp>

using namespace ramet;
using namespace ramet::helper;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

}  // namespace

TEST_CASE("without limits a helper is still bounded by its guest's memory, disk and vCPUs") {
  const HelperBounds bounds = bounds_of({}, 256 * kMiB, 2, 1024 * kMiB);
  CHECK(bounds.data_bytes == (256 + 512) * kMiB);
  CHECK(bounds.memory_bytes == (256 + 256 + 1024 + 1 + 512) * kMiB);
  CHECK(bounds.cpu_ns_per_second == 2 * kSecond + kSecond / 2);
  CHECK(bounds.cpu_seconds == 0);
}

TEST_CASE("limits that are lower bound a helper by as much") {
  const InstanceLimits limits = {.cpu_ns = 10 * kSecond,
                                 .private_bytes = 64 * kMiB,
                                 .disk_bytes = 8 * kMiB,
                                 .disk_rate = {.per_second = 4 * kMiB},
                                 .rates = {.cpu = {.per_second = kSecond / 2}}};
  const HelperBounds bounds = bounds_of(limits, 256 * kMiB, 2, 1024 * kMiB);
  CHECK(bounds.memory_bytes == (256 + 64 + 8 + 1 + 512) * kMiB);
  CHECK(bounds.cpu_ns_per_second == kSecond / 2 + kSecond / 8);
  CHECK(bounds.cpu_seconds == 24);
  CHECK(bounds.io_bytes_per_second == 5 * kMiB);
}

TEST_CASE("limits above what there is change nothing, and the greatest do not wrap") {
  const InstanceLimits limits = {.cpu_ns = kMax,
                                 .private_bytes = kMax,
                                 .disk_bytes = kMax,
                                 .rates = {.cpu = {.per_second = kMax}}};
  const HelperBounds bounds = bounds_of(limits, 256 * kMiB, 2, 1024 * kMiB);
  CHECK(bounds.memory_bytes == bounds_of({}, 256 * kMiB, 2, 1024 * kMiB).memory_bytes);
  CHECK(bounds.cpu_ns_per_second == 2 * kSecond + kSecond / 2);
  CHECK(bounds.cpu_seconds > kMax / kSecond);
  CHECK(bounds_of({}, kMax, 1, kMax).memory_bytes == kMax);
}
