#include <dirent.h>

#include <cerrno>
#include <random>

#include <catch2/catch.hpp>

#include "devices/block/state.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/devices_block/block_test_disk.h"
#include "vmm/base/unnamed_file.h"

using namespace ramet;
using namespace ramet::testing;
using block::BlockRun;
using block::CowBackend;
using block::kBlockBytes;
using block::LayerStack;

namespace {

constexpr uint64_t kDiskBytes = 64 * kBlockBytes + 3 * 512;  // its last block is a part

size_t open_fds() {
  size_t count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) {
    ++count;
  }
  ::closedir(directory);
  return count;
}

std::shared_ptr<const LayerStack> stack_over_pattern(uint64_t base_bytes = kDiskBytes) {
  return must(LayerStack::create(make_disk_file(base_bytes), kDiskBytes));
}

}  // namespace

TEST_CASE("a fork that never writes costs no descriptor and no system call") {
  const auto stack = stack_over_pattern();
  const size_t fds = open_fds();
  sys::FaultPlan every_call(sys::Call::kAny, 1'000'000, EIO);
  every_call.arm();
  std::vector<std::unique_ptr<CowBackend>> forks;
  for (int i = 0; i < 100; ++i) {
    forks.push_back(std::make_unique<CowBackend>(stack, block::OverlayOptions{}));
  }
  CHECK(every_call.seen() == 0);
  every_call.disarm();
  CHECK(open_fds() == fds);
  CHECK(forks[0]->overlay_bytes() == 0);
}

TEST_CASE("a partial write copies its block up, and neither base nor sibling sees it") {
  const auto stack = stack_over_pattern();
  CowBackend one(stack, {});
  CowBackend two(stack, {});
  DiskProbe probe;
  must(probe.write(&one, 512, pattern_bytes(0, 512, 200)));
  CHECK(one.overlay_bytes() == kBlockBytes);
  auto expected = pattern_bytes(0, 2 * kBlockBytes);
  const auto written = pattern_bytes(0, 512, 200);
  std::copy(written.begin(), written.end(), expected.begin() + 512);
  CHECK(must(probe.read(&one, 0, expected.size())) == expected);
  CHECK(must(probe.read(&two, 0, expected.size())) == pattern_bytes(0, expected.size()));
}

TEST_CASE("a disk larger than its base reads zeros past the base's end") {
  CowBackend disk(stack_over_pattern(5 * 512), {});
  DiskProbe probe;
  auto expected = pattern_bytes(0, 8 * 512);
  std::fill(expected.begin() + 5 * 512, expected.end(), std::byte{0});
  CHECK(must(probe.read(&disk, 0, expected.size())) == expected);
  must(probe.write(&disk, 6 * 512, pattern_bytes(6 * 512, 512)));
  const auto sixth = pattern_bytes(6 * 512, 512);
  std::copy(sixth.begin(), sixth.end(), expected.begin() + 6 * 512);
  CHECK(must(probe.read(&disk, 0, expected.size())) == expected);
}

TEST_CASE(
    "a long random history of writes, zeroing, freezing and forking reads like a plain array") {
  std::mt19937 random(20221111);
  const auto pick = [&](uint64_t limit) {
    return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random);
  };
  auto disk = std::make_unique<CowBackend>(stack_over_pattern(), block::OverlayOptions{});
  auto model = pattern_bytes(0, kDiskBytes);
  DiskProbe probe;
  for (int step = 0; step < 2000; ++step) {
    const uint64_t sectors = 1 + pick(30);
    const uint64_t first = pick(kDiskBytes / 512 - sectors + 1);
    const uint64_t offset = first * 512;
    const uint64_t bytes = sectors * 512;
    switch (pick(8)) {
      case 0: {
        must(disk->write_zeroes(offset, bytes));
        std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), bytes, std::byte{0});
        break;
      }
      case 1: {
        const auto stack = must(disk->freeze());
        if (pick(2) == 0) {
          disk = std::make_unique<CowBackend>(stack, block::OverlayOptions{});
        }
        break;
      }
      case 2:
      case 3: {
        const auto data = pattern_bytes(offset, bytes, static_cast<uint8_t>(step));
        must(probe.write(disk.get(), offset, data));
        std::copy(data.begin(), data.end(), model.begin() + static_cast<ptrdiff_t>(offset));
        break;
      }
      default: {
        const auto part = std::span(model).subspan(offset, bytes);
        REQUIRE(std::ranges::equal(must(probe.read(disk.get(), offset, bytes)), part));
      }
    }
  }
  CHECK(must(probe.read(disk.get(), 0, kDiskBytes)) == model);
}

TEST_CASE("a frozen layer is shared by forks that do not see each other's later writes") {
  CowBackend parent(stack_over_pattern(), {});
  DiskProbe probe;
  must(probe.write(&parent, 0, pattern_bytes(0, kBlockBytes, 1)));
  const auto frozen = must(parent.freeze());
  CHECK(frozen->depth() == 1);
  CHECK(parent.overlay_bytes() == 0);
  CHECK(must(parent.freeze()) == frozen);  // nothing was written since
  CowBackend fork(frozen, {});
  must(probe.write(&parent, 0, pattern_bytes(0, 512, 2)));
  must(probe.write(&fork, 512, pattern_bytes(0, 512, 3)));
  CHECK(must(probe.read(&parent, 512, 512)) == pattern_bytes(512, 512, 1));
  CHECK(must(probe.read(&fork, 0, 512)) == pattern_bytes(0, 512, 1));
}

TEST_CASE("a read of one run takes one call at depth 1 and at depth 100") {
  CowBackend disk(stack_over_pattern(), {});
  DiskProbe probe;
  const auto calls = [&] {
    sys::FaultPlan count(sys::Call::kPread, 1'000'000, EIO);
    count.arm();
    must(probe.read(&disk, 0, 32 * kBlockBytes));
    return count.seen();
  };
  for (int depth = 0; depth < 100; ++depth) {
    must(probe.write(&disk, 40 * kBlockBytes, pattern_bytes(0, kBlockBytes, 7)));
    must(disk.freeze().status());
    if (depth == 0) {
      CHECK(calls() == 1);
    }
  }
  CHECK(calls() == 1);
}

TEST_CASE("a stack takes kMaxLayers layers and then refuses") {
  auto stack = stack_over_pattern();
  const auto layer = make_disk_file(kDiskBytes);
  const BlockRun run{0, 1};
  for (size_t i = 0; i < LayerStack::kMaxLayers; ++i) {
    stack = must(stack->with_layer(layer, {&run, 1}));
  }
  CHECK(stack->with_layer(layer, {&run, 1}).status().code() ==
        absl::StatusCode::kResourceExhausted);
}

TEST_CASE("an overlay at its limit refuses new blocks and still takes writes to those it has") {
  CowBackend disk(stack_over_pattern(), {.max_bytes = 2 * kBlockBytes});
  DiskProbe probe;
  must(probe.write(&disk, 0, pattern_bytes(0, 2 * kBlockBytes, 5)));
  CHECK(probe.write(&disk, 2 * kBlockBytes, pattern_bytes(0, 512)).code() ==
        absl::StatusCode::kResourceExhausted);
  CHECK(must(probe.read(&disk, 2 * kBlockBytes, 512)) == pattern_bytes(2 * kBlockBytes, 512));
  must(probe.write(&disk, 512, pattern_bytes(0, 512, 6)));
}

TEST_CASE("a write beyond the limit is told of with what it would have taken, others are not") {
  std::vector<uint64_t> told;
  CowBackend disk(
      stack_over_pattern(),
      {.max_bytes = 2 * kBlockBytes, .on_full = [&](uint64_t bytes) { told.push_back(bytes); }});
  DiskProbe probe;
  must(probe.write(&disk, 0, pattern_bytes(0, 2 * kBlockBytes, 5)));
  CHECK(told.empty());
  CHECK_FALSE(probe.write(&disk, 2 * kBlockBytes, pattern_bytes(0, 3 * kBlockBytes)).ok());
  CHECK(told == std::vector<uint64_t>{5 * kBlockBytes});
  CHECK(disk.overlay_bytes() == 2 * kBlockBytes);
}

TEST_CASE("discarding gives blocks back to the limit") {
  CowBackend disk(must(LayerStack::create(nullptr, kDiskBytes)), {.max_bytes = 4 * kBlockBytes});
  DiskProbe probe;
  for (uint64_t at = 0; at < 40; at += 4) {
    must(probe.write(&disk, at * kBlockBytes, pattern_bytes(0, 4 * kBlockBytes)));
    CHECK(disk.overlay_bytes() == 4 * kBlockBytes);
    must(disk.discard(at * kBlockBytes, 4 * kBlockBytes));
    CHECK(disk.overlay_bytes() == 0);
  }
  must(disk.discard(512, 512));
  must(disk.write_zeroes(0, kDiskBytes));  // zeros over zeros take no room
  CHECK(disk.overlay_bytes() == 0);
}

TEST_CASE("a failed write leaves the old bytes in blocks that the overlay did not have") {
  CowBackend disk(stack_over_pattern(), {});
  DiskProbe probe;
  for (const uint64_t n : {1u, 2u}) {
    sys::FaultPlan plan(sys::Call::kPwrite, n, ENOSPC);
    plan.arm();
    CHECK(probe.write(&disk, 512, pattern_bytes(0, 512, 9)).code() ==
          absl::StatusCode::kResourceExhausted);
  }
  CowBackend fresh(stack_over_pattern(), {});
  {
    sys::FaultPlan plan(sys::Call::kMemfdCreate, 1, EMFILE);
    plan.arm();
    CHECK_FALSE(probe.write(&fresh, 0, pattern_bytes(0, 512, 9)).ok());
  }
  must(probe.write(&fresh, 0, pattern_bytes(0, 512, 9)));
  CHECK(must(probe.read(&disk, 0, 4096)) == pattern_bytes(0, 4096));
  CHECK(disk.overlay_bytes() == 0);
}

TEST_CASE(
    "an overlay in an unnamed file has no name in its directory, with and without O_TMPFILE") {
  const TempDir directory;
  for (const bool has_tmpfile : {true, false}) {
    sys::FaultPlan plan(sys::Call::kOpen, 1, EOPNOTSUPP);
    if (!has_tmpfile) {
      plan.arm();
    }
    CowBackend disk(stack_over_pattern(), {.make_file = [&](uint64_t size) {
                      return create_unnamed_file(directory.path(), size);
                    }});
    DiskProbe probe;
    must(probe.write(&disk, 0, pattern_bytes(0, 512, 4)));
    CHECK(plan.fired() == !has_tmpfile);
    CHECK(must(probe.read(&disk, 0, 512)) == pattern_bytes(0, 512, 4));
  }
  CHECK(directory.entries() == 0);
}

TEST_CASE("exported layers, imported over the same base, read the same") {
  const auto base = make_disk_file(kDiskBytes);
  CowBackend disk(must(LayerStack::create(base, kDiskBytes)), {});
  DiskProbe probe;
  must(probe.write(&disk, 0, pattern_bytes(0, 3 * kBlockBytes, 1)));
  must(disk.freeze().status());
  must(disk.write_zeroes(kBlockBytes, kBlockBytes));
  must(probe.write(&disk, kDiskBytes - 512, pattern_bytes(0, 512, 2)));
  const auto expected = must(probe.read(&disk, 0, kDiskBytes));
  UniqueFd file = must(create_memfd("export", 0));
  const auto runs = must(must(disk.freeze())->export_layers(file.get()));
  CHECK(runs == std::vector<BlockRun>{{0, 3}, {64, 1}});
  const auto decoded = block::decode_runs(block::encode_runs(runs), 65);
  REQUIRE(decoded.ok());
  const auto layer =
      must(block::DiskFile::adopt(std::move(file), "layer", block::Access::kReadOnly));
  CowBackend loaded(must(must(LayerStack::create(base, kDiskBytes))->import_layer(layer, *decoded)),
                    {});
  CHECK(must(probe.read(&loaded, 0, kDiskBytes)) == expected);
}

TEST_CASE("hostile layer runs and files of another size are refused") {
  const auto stack = stack_over_pattern();
  const auto layer = make_disk_file(kDiskBytes);
  const auto refused = [&](std::vector<BlockRun> runs) {
    return !stack->import_layer(layer, runs).ok() &&
           !block::decode_runs(block::encode_runs(runs), stack->blocks()).ok();
  };
  CHECK(refused({{0, 0}}));
  CHECK(refused({{65, 1}}));
  CHECK(refused({{64, 2}}));
  CHECK(refused({{1, ~uint64_t{0}}}));
  CHECK(refused({{~uint64_t{0}, 2}}));
  CHECK(refused({{4, 1}, {4, 1}}));
  CHECK(refused({{4, 1}, {2, 1}}));
  CHECK_FALSE(stack->import_layer(make_disk_file(kDiskBytes - 512), {}).ok());
  CHECK_FALSE(block::decode_runs(std::vector<std::byte>(17), 65).ok());
  CHECK_FALSE(LayerStack::create(make_disk_file(1024), 512).ok());
  CHECK_FALSE(LayerStack::create(nullptr, 0).ok());
  CHECK_FALSE(LayerStack::create(nullptr, 513).ok());
}
