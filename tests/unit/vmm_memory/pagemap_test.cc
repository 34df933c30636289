// Private memory: what was written of a copy-on-write view, and nothing that was only read.
#include "vmm/memory/pagemap.h"

#include <catch2/catch.hpp>

using namespace ramet;

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
  const bool scans = !absl::IsUnimplemented(pagemap->scan(*view.memory).status());
  uint64_t written = 0;
  // Every other page at first: as many ranges as there can be, more than one call takes.
  for (const uint64_t step : {2U, 1U}) {
    CHECK(pages_of(pagemap->private_bytes(*view.memory)) == written);
    for (uint64_t page = step - 1; page < kPages; page += 2) {
      write_page(*view.memory, page);
      ++written;
    }
    CHECK(pages_of(pagemap->read_entries(*view.memory)) == written);
    if (scans) {
      CHECK(pages_of(pagemap->scan(*view.memory)) == written);
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
    CHECK(pages_of(pagemap->read_entries(*view.memory)) == 0);
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
  CHECK(pagemap->read_entries(*view.memory).status().code() == absl::StatusCode::kInternal);
}
