// Guest memory: regions, bounds, holes, and bytes that change while they are read.
#include "vmm/memory/guest_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <limits>
#include <thread>

#include <catch2/catch.hpp>

#include "vmm/base/syscall.h"

using namespace ramet;

namespace {

constexpr uint64_t kPages = 16;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

UniqueFd memfd(uint64_t pages = kPages) {
  auto fd = create_memfd("test", pages * kPageSize);
  REQUIRE(fd.ok());
  return std::move(*fd);
}

// Two regions with a hole of four pages between them; the second lies first in the file.
const std::vector<MemoryRegion> kTwo = {
    {.start = {0}, .size = 4 * kPageSize, .file_offset = 4 * kPageSize},
    {.start = {8 * kPageSize}, .size = 4 * kPageSize, .file_offset = 0}};

std::unique_ptr<GuestMemory> two(int fd, MapMode mode = MapMode::kShared) {
  auto memory = GuestMemory::create(fd, kTwo, mode);
  REQUIRE(memory.ok());
  return std::move(*memory);
}

}  // namespace

TEST_CASE("memory is contained where a region is, to its last byte and not one further") {
  const UniqueFd fd = memfd();
  const auto memory = two(fd.get());
  CHECK(memory->total_bytes() == 8 * kPageSize);
  CHECK(memory->regions() == kTwo);
  CHECK(memory->contains({{0}, 4 * kPageSize}));
  CHECK(!memory->contains({{0}, 4 * kPageSize + 1}));
  CHECK(memory->contains({{4 * kPageSize - 1}, 1}));
  CHECK(!memory->contains({{4 * kPageSize - 1}, 2}));
  CHECK(!memory->contains({{4 * kPageSize}, 0}));
  CHECK(!memory->contains({{5 * kPageSize}, 1}));
  CHECK(!memory->contains({{8 * kPageSize - 1}, 2}));  // begins in the hole
  CHECK(memory->contains({{8 * kPageSize}, 4 * kPageSize}));
  CHECK(!memory->contains({{12 * kPageSize}, 1}));
  CHECK(memory->contains({{0}, 0}));
}

TEST_CASE("an address or a length that wraps is no memory") {
  const UniqueFd fd = memfd();
  const auto memory = two(fd.get());
  CHECK(!memory->contains({{0}, kMax}));
  CHECK(!memory->contains({{kPageSize}, kMax}));
  CHECK(!memory->contains({{kMax}, 1}));
  CHECK(!memory->contains({{kMax}, kMax}));
  CHECK(!memory->contains({{8 * kPageSize}, kMax - 4 * kPageSize}));
  CHECK(!GuestAddr{kMax}.plus(1).has_value());
  CHECK(!GuestSlice::make({kMax}, 1).has_value());
  CHECK(GuestSlice::make({kMax}, 0).has_value());
}

TEST_CASE("a copy that is not all RAM copies nothing and says size and address") {
  const UniqueFd fd = memfd();
  const auto memory = two(fd.get());
  std::array<std::byte, 8> bytes;
  bytes.fill(std::byte{0x5a});
  const auto before = bytes;
  const GuestAddr edge{4 * kPageSize - 4};
  const Status read = memory->read(edge, bytes);
  CHECK(read.code() == absl::StatusCode::kOutOfRange);
  CHECK(std::string(read.message()).find("8 bytes") != std::string::npos);
  CHECK(std::string(read.message()).find("0x3ffc") != std::string::npos);
  CHECK(bytes == before);
  CHECK(memory->write(edge, bytes).code() == absl::StatusCode::kOutOfRange);
  CHECK(*memory->read_object<uint32_t>(edge) == 0);
  CHECK(memory->fill_zero({edge, 8}).code() == absl::StatusCode::kOutOfRange);
  CHECK(memory->read_object<uint64_t>(edge).status().code() == absl::StatusCode::kOutOfRange);
  CHECK(!memory->write_object(GuestAddr{kMax - 3}, uint64_t{1}).ok());
}

TEST_CASE("objects, fills and empty copies go where they should, in each region's own file range") {
  const UniqueFd fd = memfd();
  const auto memory = two(fd.get());
  REQUIRE(memory->write_object(GuestAddr{0x10}, uint64_t{0x1122334455667788}).ok());
  REQUIRE(memory->write_object(GuestAddr{8 * kPageSize}, uint32_t{77}).ok());
  uint64_t in_file = 0;
  REQUIRE(::pread(fd.get(), &in_file, 8, 4 * kPageSize + 0x10) == 8);
  CHECK(in_file == 0x1122334455667788);
  REQUIRE(::pread(fd.get(), &in_file, 8, 0) == 8);
  CHECK(in_file == 77);
  CHECK(*memory->read_object<uint16_t>(GuestAddr{0x11}) == 0x6677);  // unaligned is fine
  REQUIRE(memory->fill_zero({{0x10}, 4}).ok());
  CHECK(*memory->read_object<uint64_t>(GuestAddr{0x10}) == 0x1122334400000000);
  CHECK(memory->read({0}, {}).ok());
  CHECK(memory->write({0}, {}).ok());
  CHECK(memory->read({4 * kPageSize}, {}).code() == absl::StatusCode::kOutOfRange);
}

TEST_CASE("ring indices are loaded and stored at even addresses only") {
  const UniqueFd fd = memfd();
  const auto memory = two(fd.get());
  REQUIRE(memory->store_release_u16({2}, 0xabcd).ok());
  CHECK(*memory->load_acquire_u16({2}) == 0xabcd);
  CHECK(memory->load_acquire_u16({3}).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(memory->store_release_u16({3}, 1).code() == absl::StatusCode::kInvalidArgument);
  CHECK(memory->load_acquire_u16({4 * kPageSize}).status().code() == absl::StatusCode::kOutOfRange);
  CHECK(memory->store_release_u16({kMax - 1}, 1).code() == absl::StatusCode::kOutOfRange);
}

TEST_CASE("regions that are empty, unaligned, unsorted, overlapping or wrapping are refused") {
  const UniqueFd fd = memfd();
  const auto refused = [&](std::vector<MemoryRegion> regions) {
    return GuestMemory::create(fd.get(), regions, MapMode::kPrivate).status().code() ==
           absl::StatusCode::kInvalidArgument;
  };
  CHECK(refused({}));
  CHECK(refused({{.start = {0}, .size = 0}}));
  CHECK(refused({{.start = {0}, .size = 100}}));
  CHECK(refused({{.start = {1}, .size = kPageSize}}));
  CHECK(refused({{.start = {0}, .size = kPageSize, .file_offset = 8}}));
  CHECK(refused({{.start = {kMax - kPageSize + 1}, .size = kPageSize}}));
  CHECK(
      refused({{.start = {0}, .size = 2 * kPageSize}, {.start = {kPageSize}, .size = kPageSize}}));
  CHECK(refused({{.start = {kPageSize}, .size = kPageSize}, {.start = {0}, .size = kPageSize}}));
}

TEST_CASE(
    "a region beyond the end of its file is refused: its first touch would kill the process") {
  const UniqueFd fd = memfd(4);
  const auto create = [&](uint64_t size, uint64_t offset) {
    const std::vector<MemoryRegion> regions = {{.start = {0}, .size = size, .file_offset = offset}};
    return GuestMemory::create(fd.get(), regions, MapMode::kPrivate).status();
  };
  CHECK(create(4 * kPageSize, 0).ok());
  CHECK(create(kPageSize, 3 * kPageSize).ok());
  CHECK(create(5 * kPageSize, 0).code() == absl::StatusCode::kInvalidArgument);
  CHECK(create(kPageSize, 4 * kPageSize).code() == absl::StatusCode::kInvalidArgument);
  CHECK(create(2 * kPageSize, 3 * kPageSize).code() == absl::StatusCode::kInvalidArgument);
  CHECK(create(kPageSize, kMax - kPageSize + 1).code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(create(5 * kPageSize, 0).message()).find("file of 0x4000") !=
        std::string::npos);
}

TEST_CASE("private memory: neither side of a copy-on-write mapping sees the other's writes") {
  const UniqueFd fd = memfd();
  {
    const auto base = two(fd.get());
    REQUIRE(base->write_object(GuestAddr{0}, uint64_t{1}).ok());
  }
  const auto a = two(fd.get(), MapMode::kPrivate);
  const auto b = two(fd.get(), MapMode::kPrivate);
  REQUIRE(a->write_object(GuestAddr{0}, uint64_t{2}).ok());
  REQUIRE(b->write_object(GuestAddr{8}, uint64_t{3}).ok());
  CHECK(*a->read_object<uint64_t>(GuestAddr{0}) == 2);
  CHECK(*a->read_object<uint64_t>(GuestAddr{8}) == 0);
  CHECK(*b->read_object<uint64_t>(GuestAddr{0}) == 1);
  CHECK(*b->read_object<uint64_t>(GuestAddr{8}) == 3);
  uint64_t in_file = 0;
  REQUIRE(::pread(fd.get(), &in_file, 8, 4 * kPageSize) == 8);
  CHECK(in_file == 1);
  REQUIRE(a->drop_private().ok());
  CHECK(*a->read_object<uint64_t>(GuestAddr{0}) == 1);
  CHECK(*b->read_object<uint64_t>(GuestAddr{8}) == 3);
}

TEST_CASE("file transfers scatter and gather over slices, and refuse what is not RAM") {
  const UniqueFd fd = memfd();
  const auto memory = two(fd.get());
  const UniqueFd disk = memfd(1);
  const std::string text = "0123456789";
  REQUIRE(::pwrite(disk.get(), text.data(), text.size(), 5) == 10);
  const std::array<GuestSlice, 2> slices = {GuestSlice{{4 * kPageSize - 4}, 4},
                                            GuestSlice{{8 * kPageSize}, 6}};
  CHECK(memory->read_from_file(disk.get(), 5, slices).value == 10);
  CHECK(*memory->read_object<uint32_t>(GuestAddr{4 * kPageSize - 4}) == 0x33323130);
  CHECK(*memory->read_object<uint32_t>(GuestAddr{8 * kPageSize}) == 0x37363534);
  CHECK(memory->write_to_file(disk.get(), 100, slices).value == 10);
  std::array<char, 10> back{};
  REQUIRE(::pread(disk.get(), back.data(), 10, 100) == 10);
  CHECK(std::string(back.data(), 10) == text);
  const std::array<GuestSlice, 2> bad = {GuestSlice{{0}, 4}, GuestSlice{{4 * kPageSize - 1}, 2}};
  CHECK(memory->read_from_file(disk.get(), 0, bad).error == EFAULT);
  CHECK(memory->write_to_file(disk.get(), 0, bad).error == EFAULT);
  const std::vector<GuestSlice> many(GuestMemory::kMaxSlices + 1, GuestSlice{{0}, 1});
  CHECK(memory->read_from_file(disk.get(), 0, many).error == EINVAL);
  CHECK(memory->read_from_file(disk.get(), 0, std::span(many).first(GuestMemory::kMaxSlices)).ok());
}

TEST_CASE("bytes that another thread changes are copied once: a 16-bit index is never torn") {
  const UniqueFd fd = memfd();
  const auto memory = two(fd.get());
  std::atomic<bool> over{false};
  std::thread guest([&] {
    for (uint16_t n = 0; !over; ++n) {
      const auto twin = static_cast<uint16_t>(n % 256 * 257);  // both bytes alike
      memory->store_release_u16({64}, twin).IgnoreError();
    }
  });
  for (int i = 0; i < 200'000; ++i) {
    const uint16_t value = *memory->load_acquire_u16({64});
    REQUIRE(value >> 8 == (value & 0xff));
  }
  over = true;
  guest.join();
}

TEST_CASE("a memory that cannot be mapped is a Status and leaves nothing mapped") {
  const UniqueFd fd = memfd();
  for (const sys::Call call : {sys::Call::kMmap, sys::Call::kMadvise, sys::Call::kStat}) {
    for (uint64_t n = 1;; ++n) {
      sys::FaultPlan plan(call, n, ENOMEM);
      plan.arm();
      const auto memory = GuestMemory::create(fd.get(), kTwo, MapMode::kPrivate);
      plan.disarm();
      if (!plan.fired()) {
        CHECK(memory.ok());
        break;
      }
      CHECK(memory.status().code() == absl::StatusCode::kResourceExhausted);
    }
  }
  CHECK(!GuestMemory::create(-1, kTwo, MapMode::kPrivate).ok());
}
