// Sets of pages, and how what was read is told from what lies beside it.
#include "vmm/memory/working_set.h"

#include <vector>

#include <catch2/catch.hpp>

#include "vmm/memory/fault_around.h"
#include "vmm/memory/pagemap.h"

using namespace ramet;

using Ranges = std::vector<PageRange>;

TEST_CASE("pages that follow one another become one range") {
  Ranges ranges;
  for (const uint64_t page : {3U, 4U, 5U, 9U, 10U, 12U}) {
    append_pages({page, 1}, &ranges);
  }
  append_pages({13, 0}, &ranges);
  CHECK(ranges == Ranges{{3, 3}, {9, 2}, {12, 1}});
  CHECK(pages_in(ranges) == 6);
}

TEST_CASE("the pages of either, of both, and of the one without the other") {
  const Ranges a = {{0, 10}, {20, 10}, {40, 1}};
  const Ranges b = {{5, 2}, {8, 14}, {29, 5}};
  CHECK(united(a, b) == Ranges{{0, 34}, {40, 1}});
  CHECK(without(a, b) == Ranges{{0, 5}, {7, 1}, {22, 7}, {40, 1}});
  CHECK(without(b, a) == Ranges{{10, 10}, {30, 4}});
  CHECK(common(a, b) == Ranges{{5, 2}, {8, 2}, {20, 2}, {29, 1}});
  CHECK(common(a, b) == common(b, a));
  CHECK(without(a, {}) == a);
  CHECK(without(a, a).empty());
  CHECK(common(a, a) == a);
  CHECK(united({}, a) == a);
}

TEST_CASE("a working set whose ranges overlap, touch, are empty or lie outside is refused") {
  const auto ok = [](const WorkingSet& set) { return check_working_set(set, 100).ok(); };
  CHECK(ok({}));
  CHECK(ok({.written = {{0, 1}, {2, 98}}, .read = {{1, 1}}}));
  CHECK_FALSE(ok({.written = {{5, 2}, {3, 1}}}));
  CHECK_FALSE(ok({.written = {{5, 2}, {6, 1}}}));
  CHECK_FALSE(ok({.written = {{5, 2}, {7, 1}}}));
  CHECK_FALSE(ok({.read = {{5, 0}}}));
  CHECK_FALSE(ok({.read = {{99, 2}}}));
  CHECK_FALSE(ok({.read = {{100, 1}}}));
  CHECK_FALSE(ok({.read = {{1, ~uint64_t{0}}}}));
  CHECK_FALSE(ok({.written = {{5, 2}}, .read = {{6, 1}}}));
}

namespace {

constexpr uint64_t kPages = 1024;

std::unique_ptr<GuestMemory> view_of(int file, MapMode mode) {
  // The second half of the file lies at another place in the guest.
  const uint64_t half = kPages / 2 * kPageSize;
  const std::vector<MemoryRegion> regions = {
      {.start = {0}, .size = half, .file_offset = 0},
      {.start = {4 * half}, .size = half, .file_offset = half}};
  auto memory = GuestMemory::create(file, regions, mode);
  REQUIRE(memory.ok());
  return *std::move(memory);
}

uint64_t address(uint64_t page) {
  return (page < kPages / 2 ? page : page + 3 * kPages / 2) * kPageSize;
}

// A file of pages that are there, as a template's are.
UniqueFd full_file() {
  auto file = create_memfd("test", kPages * kPageSize);
  REQUIRE(file.ok());
  const auto memory = view_of(file->get(), MapMode::kShared);
  for (uint64_t page = 0; page < kPages; ++page) {
    REQUIRE(memory->write_object(GuestAddr{address(page)}, page).ok());
  }
  return *std::move(file);
}

std::unique_ptr<Pagemap> open_pagemap() {
  auto pagemap = Pagemap::open();
  REQUIRE(pagemap.ok());
  return *std::move(pagemap);
}

}  // namespace

TEST_CASE("what was read and written is told page by page while nothing is mapped around a fault") {
  const UniqueFd file = full_file();
  const auto memory = view_of(file.get(), MapMode::kPrivate);
  const auto pagemap = open_pagemap();
  const auto exact = FaultAroundOff::create(*memory);
  INFO(exact.status());
  REQUIRE(exact.ok());
  for (const uint64_t page : {100U, 101U, 600U, 1023U}) {
    REQUIRE(memory->read_object<uint64_t>(GuestAddr{address(page)}).ok());
  }
  for (const uint64_t page : {0U, 511U, 512U, 600U}) {
    REQUIRE(memory->write_object(GuestAddr{address(page)}, uint64_t{1}).ok());
  }
  for (const Pagemap::Way way : {Pagemap::Way::kBest, Pagemap::Way::kRead}) {
    const auto touched = pagemap->touched(*memory, way);
    REQUIRE(touched.ok());
    CHECK(touched->written == Ranges{{0, 1}, {511, 2}, {600, 1}});
    CHECK(touched->read == Ranges{{100, 2}, {1023, 1}});
    CHECK(check_working_set(*touched, kPages).ok());
  }
}

TEST_CASE("where it cannot be had, it is a Status and nothing is left of it") {
  const UniqueFd file = full_file();
  const auto memory = view_of(file.get(), MapMode::kPrivate);
  for (const auto call : {sys::Call::kUserfaultfd, sys::Call::kIoctl}) {
    sys::FaultPlan plan(call, 1, EPERM);
    plan.arm();
    CHECK_FALSE(FaultAroundOff::create(*memory).ok());
  }
  CHECK(FaultAroundOff::create(*memory).ok());
}

TEST_CASE("pages that are made its own ahead hold what the file holds, and no others are") {
  const UniqueFd file = full_file();
  const auto memory = view_of(file.get(), MapMode::kPrivate);
  const auto pagemap = open_pagemap();
  const Ranges ahead = {{3, 2}, {510, 4}, {1020, 4}};
  REQUIRE(memory->populate_private(ahead).ok());
  CHECK(pagemap->private_bytes(*memory).value() == 10 * kPageSize);
  const auto touched = pagemap->touched(*memory);
  REQUIRE(touched.ok());
  CHECK(touched->written == ahead);
  for (const uint64_t page : {3U, 511U, 512U, 1023U}) {
    CHECK(memory->read_object<uint64_t>(GuestAddr{address(page)}).value() == page);
  }
  // Pages beyond the memory are nobody's.
  CHECK(memory->populate_private(Ranges{{1023, 100}}).ok());
  CHECK(memory->slices_of(Ranges{{511, 2}, {1023, 100}}).size() == 3);
}

TEST_CASE("memory that cannot be had ahead is a Status") {
  const UniqueFd file = full_file();
  const auto memory = view_of(file.get(), MapMode::kPrivate);
  sys::FaultPlan plan(sys::Call::kMadvise, 1, ENOMEM);
  plan.arm();
  CHECK(absl::IsResourceExhausted(memory->populate_private(Ranges{{0, 1}})));
}
