// Template memory: sealed, sparse, and never changed by who maps it.
#include "vmm/memory/memory_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <limits>

#include <catch2/catch.hpp>

#include "vmm/base/syscall.h"
#include "vmm/memory/guest_memory.h"

using namespace ramet;

namespace {

constexpr uint64_t kPages = 64;
constexpr uint64_t kBytes = kPages * kPageSize;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

std::vector<MemoryRegion> whole(uint64_t bytes = kBytes) {
  return {{.start = {0}, .size = bytes, .file_offset = 0}};
}

// Pages 3, 4 and 9 hold something; page 5 was written with zeros; the last byte of page 20 is set.
UniqueFd filled() {
  auto fd = create_memfd("test", kBytes);
  REQUIRE(fd.ok());
  const auto memory = GuestMemory::create(fd->get(), whole(), MapMode::kShared);
  REQUIRE(memory.ok());
  for (const uint64_t page : {3u, 4u, 9u}) {
    REQUIRE((*memory)->write_object(GuestAddr{page * kPageSize + 100}, page).ok());
  }
  REQUIRE((*memory)->fill_zero({{5 * kPageSize}, kPageSize}).ok());
  REQUIRE((*memory)->write_object(GuestAddr{21 * kPageSize - 1}, uint8_t{1}).ok());
  return std::move(*fd);
}

const std::vector<Extent> kFilled = {
    {3 * kPageSize, 2 * kPageSize}, {9 * kPageSize, kPageSize}, {20 * kPageSize, kPageSize}};

uint64_t blocks_of(int fd) {
  struct stat info = {};
  REQUIRE(::fstat(fd, &info) == 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

}  // namespace

TEST_CASE("freezing keeps the pages that hold something and frees the pages of zeros") {
  UniqueFd fd = filled();
  CHECK(blocks_of(fd.get()) == 5 * kPageSize);
  const auto image = MemoryImage::freeze(std::move(fd), kBytes);
  REQUIRE(image.ok());
  CHECK((*image)->extents() == kFilled);
  CHECK((*image)->stored_bytes() == 4 * kPageSize);
  CHECK(blocks_of((*image)->fd()) == 4 * kPageSize);
  CHECK((*image)->size() == kBytes);
  uint64_t value = 0;
  REQUIRE((*image)->read(9 * kPageSize + 100, std::as_writable_bytes(std::span(&value, 1))).ok());
  CHECK(value == 9);
  const auto bytes = (*image)->bytes();
  REQUIRE(bytes.ok());
  CHECK(bytes->size() == kBytes);
  CHECK(std::memcmp(bytes->data() + 9 * kPageSize + 100, &value, sizeof value) == 0);
  CHECK((*image)->bytes()->data() == bytes->data());
  CHECK((*image)->read(kBytes - 4, std::as_writable_bytes(std::span(&value, 1))).code() ==
        absl::StatusCode::kDataLoss);
}

TEST_CASE(
    "a frozen image can be changed by nobody: not written, resized, mapped to write, or unsealed") {
  const auto image = MemoryImage::freeze(filled(), kBytes);
  REQUIRE(image.ok());
  const int fd = (*image)->fd();
  CHECK(*is_sealed(fd));
  CHECK(::pwrite(fd, "x", 1, 0) == -1);
  CHECK(errno == EPERM);
  CHECK(::ftruncate(fd, 0) == -1);
  CHECK(::ftruncate(fd, 2 * kBytes) == -1);
  CHECK(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kBytes) == -1);
  CHECK(!GuestMemory::create(fd, whole(), MapMode::kShared).ok());
  CHECK(::fcntl(fd, F_ADD_SEALS, 0) == -1);
}

TEST_CASE("an image that is still mapped to write is not frozen") {
  UniqueFd fd = filled();
  const int raw = fd.get();
  const auto mapped = GuestMemory::create(raw, whole(), MapMode::kShared);
  REQUIRE(mapped.ok());
  const auto image = MemoryImage::freeze(std::move(fd), kBytes);
  CHECK(image.status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("two forks of an image see neither each other's writes nor change the image") {
  const auto image = MemoryImage::freeze(filled(), kBytes);
  REQUIRE(image.ok());
  const auto a = GuestMemory::create((*image)->fd(), whole(), MapMode::kPrivate);
  const auto b = GuestMemory::create((*image)->fd(), whole(), MapMode::kPrivate);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  for (uint64_t page = 0; page < kPages; ++page) {
    REQUIRE((*a)->write_object(GuestAddr{page * kPageSize + 100}, uint64_t{1000 + page}).ok());
  }
  for (uint64_t page = 0; page < kPages; ++page) {
    const uint64_t expected = page == 3 || page == 4 || page == 9 ? page : 0;
    CHECK(*(*b)->read_object<uint64_t>(GuestAddr{page * kPageSize + 100}) == expected);
  }
  std::vector<std::byte> bytes(kBytes);
  REQUIRE((*image)->read(0, bytes).ok());
  for (uint64_t page = 0; page < kPages; ++page) {
    CHECK(bytes[page * kPageSize + 100] ==
          static_cast<std::byte>(page == 3 || page == 4 || page == 9 ? page : 0));
  }
  REQUIRE((*a)->drop_private().ok());
  CHECK(*(*a)->read_object<uint64_t>(GuestAddr{3 * kPageSize + 100}) == 3);
}

TEST_CASE("an image made from its extents is the same image") {
  const auto first = MemoryImage::freeze(filled(), kBytes);
  REQUIRE(first.ok());
  const auto second = MemoryImage::from_extents(
      kBytes, (*first)->extents(),
      [&](uint64_t offset, std::span<std::byte> bytes) { return (*first)->read(offset, bytes); });
  REQUIRE(second.ok());
  CHECK((*second)->extents() == kFilled);
  CHECK(*is_sealed((*second)->fd()));
  CHECK(blocks_of((*second)->fd()) == 4 * kPageSize);
  std::vector<std::byte> one(kBytes);
  std::vector<std::byte> two(kBytes);
  REQUIRE((*first)->read(0, one).ok());
  REQUIRE((*second)->read(0, two).ok());
  CHECK(one == two);
}

TEST_CASE("a fill that fails is passed on") {
  const auto image = MemoryImage::from_extents(
      kBytes, kFilled, [](uint64_t, std::span<std::byte>) { return absl::DataLossError("short"); });
  CHECK(image.status().message() == "short");
}

TEST_CASE("extents from a hostile file are refused with a message") {
  const auto refused = [](uint64_t size, std::vector<Extent> extents) {
    const Status status = check_extents(size, extents);
    const auto never = [](uint64_t, std::span<std::byte>) -> Status {
      FAIL("filled");
      return {};
    };
    return status.code() == absl::StatusCode::kInvalidArgument &&
           !MemoryImage::from_extents(size, extents, never).ok();
  };
  CHECK(check_extents(kBytes, {}).ok());
  CHECK(check_extents(kBytes, kFilled).ok());
  CHECK(check_extents(kBytes, std::vector<Extent>{{0, kBytes}}).ok());
  CHECK(refused(kBytes, {{0, 0}}));
  CHECK(refused(kBytes, {{1, kPageSize}}));
  CHECK(refused(kBytes, {{0, kPageSize - 1}}));
  CHECK(refused(kBytes, {{0, kBytes + kPageSize}}));
  CHECK(refused(kBytes, {{kBytes, kPageSize}}));
  CHECK(refused(kBytes, {{kMax - kPageSize + 1, kPageSize}}));
  CHECK(refused(kBytes, {{kPageSize, kMax - kPageSize + 1}}));
  CHECK(refused(kBytes, {{0, kPageSize}, {0, kPageSize}}));
  CHECK(refused(kBytes, {{0, kPageSize}, {kPageSize, kPageSize}}));  // touches
  CHECK(refused(kBytes, {{4 * kPageSize, kPageSize}, {0, kPageSize}}));
  CHECK(refused(kBytes, {{0, 2 * kPageSize}, {kPageSize, 2 * kPageSize}}));
  CHECK(refused(0, {{0, kPageSize}}));
}

TEST_CASE("a size that no file can have is a Status, not an allocation") {
  const auto nothing = [](uint64_t, std::span<std::byte>) { return Status(); };
  for (const uint64_t size : {kMax, kMax - kPageSize + 1, uint64_t{1} << 63}) {
    CHECK(!MemoryImage::from_extents(size, {}, nothing).ok());
  }
  // A huge image of holes costs nothing.
  const auto sparse = MemoryImage::from_extents(uint64_t{1} << 39, {}, nothing);
  REQUIRE(sparse.ok());
  CHECK(blocks_of((*sparse)->fd()) == 0);
}

TEST_CASE(
    "every system call of freezing and making an image may fail: a Status, and no descriptor is "
    "left") {
  const auto count_fds = [] {
    int count = 0;
    for (int fd = 0; fd < 256; ++fd) {
      count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    }
    return count;
  };
  const int before = count_fds();
  uint64_t failures = 0;
  for (uint64_t n = 1;; ++n) {
    UniqueFd fd = filled();
    sys::FaultPlan plan(sys::Call::kAny, n, EIO);
    plan.arm();
    const auto image = MemoryImage::freeze(std::move(fd), kBytes);
    plan.disarm();
    if (!plan.fired()) {
      CHECK(image.ok());
      break;
    }
    CHECK(!image.ok());
    ++failures;
  }
  for (uint64_t n = 1;; ++n) {
    sys::FaultPlan plan(sys::Call::kAny, n, EIO);
    plan.arm();
    const auto image = MemoryImage::from_extents(
        kBytes, kFilled, [](uint64_t, std::span<std::byte>) { return Status(); });
    plan.disarm();
    if (!plan.fired()) {
      CHECK(image.ok());
      break;
    }
    CHECK(!image.ok());
    ++failures;
  }
  CHECK(failures > 15);
  CHECK(count_fds() == before);
}

TEST_CASE("memory whose pages the kernel still holds for a moment is sealed a moment later") {
  auto fd = create_memfd("test", kBytes);
  REQUIRE(fd.ok());
  sys::FaultPlan plan(sys::Call::kFcntl, 1, EBUSY);
  plan.arm();
  const Status sealed = seal_memfd(fd->get());
  plan.disarm();
  INFO(sealed.ToString());
  CHECK(plan.fired());
  CHECK(sealed.ok());
  CHECK(*is_sealed(fd->get()));
}

TEST_CASE("memory that somebody maps shared and writable is not sealed") {
  auto fd = create_memfd("test", kBytes);
  REQUIRE(fd.ok());
  const auto memory = GuestMemory::create(fd->get(), whole(), MapMode::kShared);
  REQUIRE(memory.ok());
  CHECK(absl::IsFailedPrecondition(seal_memfd(fd->get())));
  CHECK_FALSE(*is_sealed(fd->get()));
}
