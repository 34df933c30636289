// memory.bin: what is loaded is what was saved, or DataLoss, and hostile sections cost nothing.
#include "lib/store/memory_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "lib/store/manifest.h"
#include "tests/unit/lib_store/store_support.h"
#include "vmm/base/fault_plan.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/codec.h"

using namespace ramet;
using namespace ramet::testing;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSize = 8 * kMiB;
// One page; one extent longer than a piece of the loader, with zero pages inside; the last page.
const std::vector<Extent> kExtents = {
    {kPageSize, kPageSize}, {kMiB, 2 * kMiB + kPageSize}, {kSize - kPageSize, kPageSize}};

std::shared_ptr<const MemoryImage> sample() {
  auto image =
      MemoryImage::from_extents(kSize, kExtents, [](uint64_t offset, std::span<std::byte> bytes) {
        for (size_t at = 0; at < bytes.size(); at += 7) {
          const bool zero_page = (offset + at) / kPageSize % 5 == 0 && bytes.size() > kPageSize;
          bytes[at] = zero_page ? std::byte{0} : static_cast<std::byte>(1 + (offset + at) % 250);
        }
        return Status();
      });
  REQUIRE(image.ok());
  return *image;
}

std::vector<std::byte> contents(const MemoryImage& image) {
  std::vector<std::byte> bytes(image.size());
  REQUIRE(image.read(0, bytes).ok());
  return bytes;
}

struct Row {
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t digest = 0;
};

Section section(uint64_t size, const std::vector<Row>& rows, uint32_t more = 0) {
  Encoder out;
  out.number(size);
  out.number(static_cast<uint32_t>(rows.size() + more));
  for (const Row& row : rows) {
    out.number(row.offset);
    out.number(row.size);
    out.number(row.digest);
  }
  return {.name = kMemorySection, .version = 1, .bytes = out.take()};
}

Status load(const Section& from, const TempDir& folder) {
  return load_memory(std::span(&from, 1), folder.path()).status();
}

// A memory.bin of `size` bytes that are all holes.
void make_hollow(const TempDir& folder, uint64_t size) {
  write_file(folder / kMemoryName, "");
  fs::resize_file(folder / kMemoryName, size);
}

}  // namespace

TEST_CASE("memory comes back byte for byte, and its pages of zeros stay holes") {
  TempDir folder;
  const auto image = sample();
  const auto saved = save_memory(*image, folder.path());
  REQUIRE(saved.ok());
  CHECK(saved->name == kMemorySection);
  CHECK(fs::file_size(folder / kMemoryName) == kSize);
  const auto back = load_memory(std::span(&*saved, 1), folder.path());
  REQUIRE(back.ok());
  CHECK((*back)->size() == kSize);
  CHECK((*back)->stored_bytes() <= image->stored_bytes());
  CHECK(contents(**back) == contents(*image));
  // Saved again it is the same.
  TempDir second;
  CHECK(save_memory(**back, second.path())->bytes == saved->bytes);
}

TEST_CASE("memory that is nothing but zeros takes no space on disk and comes back") {
  TempDir folder;
  const auto image = MemoryImage::from_extents(kSize, {}, nullptr);
  REQUIRE(image.ok());
  const auto saved = save_memory(**image, folder.path());
  REQUIRE(saved.ok());
  const auto back = load_memory(std::span(&*saved, 1), folder.path());
  REQUIRE(back.ok());
  CHECK((*back)->stored_bytes() == 0);
  CHECK(contents(**back) == std::vector<std::byte>(kSize));
}

TEST_CASE("a bit inverted in any saved range is damage, named by its range") {
  TempDir folder;
  const auto saved = save_memory(*sample(), folder.path());
  REQUIRE(saved.ok());
  for (const Extent& extent : kExtents) {
    for (const uint64_t offset : {extent.offset, extent.offset + extent.size - 1}) {
      const auto at = static_cast<std::streamoff>(offset);
      flip_bit(folder / kMemoryName, at);
      const Status status = load(*saved, folder);
      INFO(status);
      CHECK(status.code() == absl::StatusCode::kDataLoss);
      CHECK(says(status, "memory.bin is damaged"));
      flip_bit(folder / kMemoryName, at);
    }
  }
  CHECK(load(*saved, folder).ok());
}

TEST_CASE("bytes outside the saved ranges are not looked at") {
  TempDir folder;
  const auto saved = save_memory(*sample(), folder.path());
  flip_bit(folder / kMemoryName, 0);
  const auto back = load_memory(std::span(&*saved, 1), folder.path());
  REQUIRE(back.ok());
  CHECK(contents(**back) == contents(*sample()));
}

TEST_CASE("a memory file of another size, missing, or no file is refused") {
  TempDir folder;
  const auto saved = save_memory(*sample(), folder.path());
  for (const uint64_t size : {uint64_t{0}, kSize - 1, kSize + 1}) {
    fs::resize_file(folder / kMemoryName, size);
    CHECK(load(*saved, folder).code() == absl::StatusCode::kDataLoss);
  }
  fs::remove(folder / kMemoryName);
  CHECK(says(load(*saved, folder), "memory.bin is missing"));
  fs::create_directory(folder / kMemoryName);
  CHECK(says(load(*saved, folder), "no regular file"));
  CHECK(load_memory({}, folder.path()).status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("every cut of the memory section, and a byte more, is DataLoss") {
  TempDir folder;
  const auto saved = save_memory(*sample(), folder.path());
  REQUIRE(saved.ok());
  Section altered = *saved;
  for (size_t size = 0; size < saved->bytes.size(); ++size) {
    altered.bytes.assign(saved->bytes.begin(),
                         saved->bytes.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(load(altered, folder).code() == absl::StatusCode::kDataLoss);
  }
  altered.bytes = saved->bytes;
  altered.bytes.push_back(std::byte{0});
  CHECK(load(altered, folder).code() == absl::StatusCode::kDataLoss);
}

TEST_CASE("a bit inverted anywhere in the memory section is refused or gives the same memory") {
  TempDir folder;
  const auto image = sample();
  const auto saved = save_memory(*image, folder.path());
  REQUIRE(saved.ok());
  for (size_t at = 0; at < saved->bytes.size(); ++at) {
    Section altered = *saved;
    altered.bytes[at] ^= std::byte{0x10};
    CHECK_FALSE(load(altered, folder).ok());
  }
}

TEST_CASE("extents that overlap, descend, are unaligned or leave memory are DataLoss") {
  TempDir folder;
  make_hollow(folder, kSize);
  const uint64_t most = ~uint64_t{0};
  const std::vector<std::vector<Row>> hostile = {{{0, 0}},
                                                 {{1, kPageSize}},
                                                 {{0, kPageSize - 1}},
                                                 {{kSize, kPageSize}},
                                                 {{kSize - kPageSize, 2 * kPageSize}},
                                                 {{most - kPageSize + 1, kPageSize}},
                                                 {{kPageSize, most - kPageSize + 1}},
                                                 {{0, most}},
                                                 {{0, kPageSize}, {0, kPageSize}},
                                                 {{0, kPageSize}, {kPageSize, kPageSize}},
                                                 {{kMiB, kPageSize}, {0, kPageSize}},
                                                 {{0, kMiB}, {kPageSize, kPageSize}}};
  for (const auto& rows : hostile) {
    const Status status = load(section(kSize, rows), folder);
    INFO(status);
    CHECK(status.code() == absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("counts and sizes beyond their limits are refused before anything is allocated") {
  TempDir folder;
  make_hollow(folder, kSize);
  CHECK(says(load(section(kSize, {}, 100'001), folder), "number of extents"));
  CHECK(load(section(kSize, {}, 100'000), folder).code() == absl::StatusCode::kDataLoss);
  for (const uint64_t size : {uint64_t{0}, kPageSize - 1, ~uint64_t{0}, uint64_t{1} << 63}) {
    CHECK(load(section(size, {}), folder).code() == absl::StatusCode::kDataLoss);
  }
  CHECK(load(section(kSize + 1, {}), folder).code() == absl::StatusCode::kDataLoss);
}

TEST_CASE("ranges that claim far more than a hollow file holds are refused unread") {
  TempDir folder;
  const uint64_t size = uint64_t{16} << 30;
  make_hollow(folder, size);
  const Status status = load(section(size, {{0, size, 0}}), folder);
  INFO(status);
  CHECK(status.code() == absl::StatusCode::kDataLoss);
  CHECK(says(status, "too few"));
}

TEST_CASE("whichever system call of saving or loading memory fails, it is a Status") {
  const auto image = sample();
  const size_t files = open_files();
  bool fired = true;
  for (uint64_t n = 1; fired; ++n) {
    REQUIRE(n < 200);
    TempDir folder;
    sys::FaultPlan plan(sys::Call::kAny, n, EIO);
    plan.arm();
    const auto saved = save_memory(*image, folder.path());
    const bool done = saved.ok() && load(*saved, folder).ok();
    plan.disarm();
    fired = plan.fired();
    INFO("call " << n);
    CHECK(done != fired);
  }
  CHECK(open_files() == files);
}

TEST_CASE("too many ranges become fewer by closing the smallest gaps, losing none") {
  std::vector<Extent> many;
  for (uint64_t i = 0; i < 1000; ++i) {
    many.push_back({i * 16 * kPageSize + (i / 100) * kMiB, kPageSize});
  }
  CHECK(coalesce(many, 1000) == many);
  const auto few = coalesce(many, 999);
  CHECK(few.size() == 10);  // the gaps of 60 KiB went, those of more than 1 MiB stayed
  CHECK(coalesce(many, 10) == few);
  const auto one = coalesce(many, 1);
  REQUIRE(one.size() == 1);
  CHECK(one[0].offset == 0);
  CHECK(one[0].size == many.back().offset + kPageSize);
  for (const Extent& extent : many) {
    CHECK(std::ranges::any_of(few, [&](const Extent& into) {
      return into.offset <= extent.offset && extent.offset + extent.size <= into.offset + into.size;
    }));
  }
  CHECK(check_extents(uint64_t{1} << 40, few).ok());
  CHECK(coalesce({}, 1).empty());
}
