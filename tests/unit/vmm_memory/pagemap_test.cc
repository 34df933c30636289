// Private memory: what was written of a copy-on-write view, and nothing that was only read.
#include "vmm/memory/pagemap.h"

#include <catch2/catch.hpp>

using namespace ramet;

using Way = Pagemap::Way;

namespace {

constexpr uint64_t kPages = 4096;

struct View {
  UniqueFd file;
  std::unique_ptr<GuestMemory> memory;
};

// Two regions of half of `kPages` each.
View make_view(MapMode mode) {
  auto file = create_memfd("test", kPages * kPageSize);
  REQUIRE(file.ok());
  const uint64_t half = kPages / 2 * kPageSize;
  const std::vector<MemoryRegion> regions = {
      {.start = {0}, .size = half, .file_offset = 0},
      {.start = {2 * half}, .size = half, .file_offset = half}};
  auto memory = GuestMemory::create(file->get(), regions, mode);
  REQUIRE(memory.ok());
  return {*std::move(file), *std::move(memory)};
}

void write_page(const GuestMemory& memory, uint64_t page) {
  const uint64_t hole = page < kPages / 2 ? 0 : kPages / 2;
  REQUIRE(memory.write_object(GuestAddr{(page + hole) * kPageSize}, uint64_t{1}).ok());
}

std::unique_ptr<Pagemap> open_pagemap() {
  auto pagemap = Pagemap::open();
  REQUIRE(pagemap.ok());
  return *std::move(pagemap);
}

uint64_t pages_of(const StatusOr<uint64_t>& bytes) {
  INFO(bytes.status());
  REQUIRE(bytes.ok());
  return *bytes / kPageSize;
}

}  // namespace

TEST_CASE("of a copy-on-write view the pages that were written count, by both ways alike") {
  const auto pagemap = open_pagemap();
  const View view = make_view(MapMode::kPrivate);
  const bool scans =
      !absl::IsUnimplemented(pagemap->private_bytes(*view.memory, Way::kScan).status());
  uint64_t written = 0;
  // Every other page at first: as many ranges as there can be, more than one call takes.
  for (const uint64_t step : {2U, 1U}) {
    CHECK(pages_of(pagemap->private_bytes(*view.memory)) == written);
    for (uint64_t page = step - 1; page < kPages; page += 2) {
      write_page(*view.memory, page);
      ++written;
    }
    CHECK(pages_of(pagemap->private_bytes(*view.memory, Way::kRead)) == written);
    if (scans) {
      CHECK(pages_of(pagemap->private_bytes(*view.memory, Way::kScan)) == written);
    }
  }
  CHECK(written == kPages);
  REQUIRE(view.memory->drop_private().ok());
  CHECK(pages_of(pagemap->private_bytes(*view.memory)) == 0);
  CHECK(pagemap->can_scan() == scans);
}

TEST_CASE("pages that were only read, and those of a shared view, are nobody's own") {
  const auto pagemap = open_pagemap();
  for (const MapMode mode : {MapMode::kPrivate, MapMode::kShared}) {
    const View view = make_view(mode);
    for (uint64_t page = 0; page < kPages / 2; ++page) {
      REQUIRE(view.memory->read_object<uint64_t>(GuestAddr{page * kPageSize}).ok());
      if (mode == MapMode::kShared) {
        write_page(*view.memory, page);
      }
    }
    CHECK(pages_of(pagemap->private_bytes(*view.memory)) == 0);
    CHECK(pages_of(pagemap->private_bytes(*view.memory, Way::kRead)) == 0);
  }
}

TEST_CASE("a kernel without PAGEMAP_SCAN is asked once, then the entries are read") {
  const auto pagemap = open_pagemap();
  const View view = make_view(MapMode::kPrivate);
  write_page(*view.memory, 3);
  sys::FaultPlan plan(sys::Call::kIoctl, 1, ENOTTY);
  plan.arm();
  CHECK(pages_of(pagemap->private_bytes(*view.memory)) == 1);
  CHECK_FALSE(pagemap->can_scan());
  CHECK(pages_of(pagemap->private_bytes(*view.memory)) == 1);
  CHECK(plan.seen() == 1);
}

TEST_CASE("a scan or a read that fails is a Status, not a figure") {
  const auto pagemap = open_pagemap();
  const View view = make_view(MapMode::kPrivate);
  {
    sys::FaultPlan plan(sys::Call::kIoctl, 1, EIO);
    plan.arm();
    CHECK(pagemap->private_bytes(*view.memory).status().code() == absl::StatusCode::kInternal);
  }
  sys::FaultPlan plan(sys::Call::kPread, 2, EIO);
  plan.arm();
  CHECK(pagemap->private_bytes(*view.memory, Way::kRead).status().code() ==
        absl::StatusCode::kInternal);
}

TEST_CASE(
    "of a copy-on-write view what was read is shared, what was written its own, with tables") {
  const auto pagemap = open_pagemap();
  const View view = make_view(MapMode::kPrivate);
  const std::vector<Way> ways =
      absl::IsUnimplemented(pagemap->use(*view.memory, Way::kScan).status())
          ? std::vector<Way>{Way::kRead}
          : std::vector<Way>{Way::kScan, Way::kRead, Way::kBest};
  const auto use = [&](Way way) {
    const auto used = pagemap->use(*view.memory, way);
    INFO(used.status());
    REQUIRE(used.ok());
    return *used;
  };
  for (const Way way : ways) {
    CHECK(use(way) == MemoryUse{});
  }
  // At both ends of the first region, and in the second: a read may map its neighbours too.
  const auto read_page = [&](uint64_t page) {
    REQUIRE(view.memory->read_object<uint64_t>(GuestAddr{page * kPageSize}).ok());
  };
  write_page(*view.memory, 0);
  write_page(*view.memory, kPages / 2 - 1);
  write_page(*view.memory, kPages / 2);
  read_page(kPages / 4);
  for (const Way way : ways) {
    const MemoryUse used = use(way);
    CHECK(used.private_bytes == 3 * kPageSize);
    CHECK(used.swapped_bytes == 0);
    CHECK(used.shared_bytes >= kPageSize);
    CHECK(used.resident_bytes() == used.private_bytes + used.shared_bytes);
    // 8 MiB each: two or three areas of 2 MiB of the first, one of the second, and those of 1 GiB.
    CHECK(used.page_table_bytes >= (3 + 1 + 2) * kPageSize);
    CHECK(used.page_table_bytes <= (3 + 1 + 4) * kPageSize);
  }
}
