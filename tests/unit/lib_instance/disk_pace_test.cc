// The rate of an instance's disks, and what it counts.
#include "lib/instance/disk_pace.h"

#include <catch2/catch.hpp>

using namespace ramet;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 5'000 * kSecond;

}  // namespace

TEST_CASE("a disk that transfers more than its rate waits, and the waits are counted") {
  DiskPace pace({.per_second = 1'000'000});
  CHECK(pace.limits());
  CHECK(pace.take(100'000, kStart).wait_until_ns == 0);  // a tenth of a second's
  const DiskPace::Answer answer = pace.take(2'000'000, kStart);
  CHECK(answer.wait_until_ns == kStart + 2 * kSecond);
  CHECK_FALSE(answer.hit);
  CHECK(pace.waits().count == 1);
  CHECK(pace.waits().total_ns == 2 * kSecond);
}

TEST_CASE("a disk whose rate ends is a hit with the figures") {
  DiskPace pace({.per_second = 1'000'000, .ends = true});
  CHECK_FALSE(pace.take(1'000'000, kStart).hit);
  CHECK(pace.take(512, kStart).hit == LimitHit{LimitKind::kDiskRate, 1'000'000, 1'000'512});
}

TEST_CASE("without a rate nothing waits") {
  DiskPace pace({});
  CHECK_FALSE(pace.limits());
  CHECK(pace.take(uint64_t{1} << 40, kStart).wait_until_ns == 0);
  CHECK(pace.waits().count == 0);
}
