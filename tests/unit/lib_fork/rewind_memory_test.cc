// A used view of a template's memory reads as the template again, and the pages of its working set
// stay its own.
#include "lib/fork/rewind_memory.h"

#include <cstring>
#include <vector>

#include <catch2/catch.hpp>

using namespace ramet;

namespace {

constexpr uint64_t kPages = 64;
constexpr uint64_t kHalf = kPages / 2;
// The second half of the file lies behind a hole.
constexpr uint64_t kHole = 100;

struct View {
  std::shared_ptr<const MemoryImage> image;
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<Pagemap> pagemap;
};

// Every page but the last ten begins with its number, plus one.
View make_view() {
  const std::vector<Extent> extents = {{.offset = 0, .size = (kPages - 10) * kPageSize}};
  auto image = MemoryImage::from_extents(kPages * kPageSize, extents,
                                         [](uint64_t offset, std::span<std::byte> bytes) {
                                           for (size_t at = 0; at < bytes.size(); at += kPageSize) {
                                             const uint64_t value = (offset + at) / kPageSize + 1;
                                             std::memcpy(bytes.data() + at, &value, sizeof value);
                                           }
                                           return Status();
                                         });
  REQUIRE(image.ok());
  const std::vector<MemoryRegion> regions = {
      {.start = {0}, .size = kHalf * kPageSize, .file_offset = 0},
      {.start = {(kHalf + kHole) * kPageSize},
       .size = kHalf * kPageSize,
       .file_offset = kHalf * kPageSize}};
  auto memory = GuestMemory::create((*image)->fd(), regions, MapMode::kPrivate);
  REQUIRE(memory.ok());
  auto pagemap = Pagemap::open();
  REQUIRE(pagemap.ok());
  return {*std::move(image), *std::move(memory), *std::move(pagemap)};
}

GuestAddr address(uint64_t page) { return {(page < kHalf ? page : page + kHole) * kPageSize}; }

void scribble(const View& view, uint64_t page) {
  REQUIRE(view.memory->write_object(address(page), uint64_t{0xdead}).ok());
  REQUIRE(view.memory->write_object(GuestAddr{address(page).value + 4088}, ~uint64_t{0}).ok());
}

std::vector<PageRange> own_pages(const View& view) {
  auto touched = view.pagemap->touched(*view.memory);
  REQUIRE(touched.ok());
  return touched->written;
}

void check_as_template(const View& view) {
  for (uint64_t page = 0; page < kPages; ++page) {
    INFO("page " << page);
    const auto first = view.memory->read_object<uint64_t>(address(page));
    const auto last = view.memory->read_object<uint64_t>(GuestAddr{address(page).value + 4088});
    REQUIRE(first.ok());
    REQUIRE(last.ok());
    CHECK(*first == (page < kPages - 10 ? page + 1 : 0));
    CHECK(*last == 0);
  }
}

}  // namespace

TEST_CASE("memory that is rewound is the template's, and its own pages are those of the set") {
  const View view = make_view();
  for (const uint64_t page : {2U, 3U, 4U, 9U, 30U, 31U, 32U, 33U, 60U}) {
    scribble(view, page);
  }
  const WorkingSet set = {.written = {{3, 2}, {31, 2}, {40, 1}, {60, 1}}, .read = {{8, 3}}};
  const auto missing = rewind_memory(*view.memory, *view.image, set, *view.pagemap);
  INFO(missing.status());
  REQUIRE(missing.ok());
  CHECK((missing->written == std::vector<PageRange>{{40, 1}}));
  CHECK((missing->read == std::vector<PageRange>{{9, 1}}));  // was written to
  CHECK((own_pages(view) == std::vector<PageRange>{{3, 2}, {31, 2}, {60, 1}}));
  check_as_template(view);
}

TEST_CASE("memory of which every page was used is the template's again, more than once") {
  const View view = make_view();
  const WorkingSet set = {.written = {{0, 40}}};
  for (int turn = 0; turn < 3; ++turn) {
    for (uint64_t page = 0; page < kPages; ++page) {
      scribble(view, page);
    }
    REQUIRE(rewind_memory(*view.memory, *view.image, set, *view.pagemap).ok());
    CHECK((own_pages(view) == std::vector<PageRange>{{0, 40}}));
    check_as_template(view);
  }
}

TEST_CASE("of memory that was only read nothing is missing but what will be written") {
  const View view = make_view();
  check_as_template(view);  // reads every page
  const auto missing = rewind_memory(*view.memory, *view.image,
                                     {.written = {{5, 1}}, .read = {{6, 3}}}, *view.pagemap);
  REQUIRE(missing.ok());
  CHECK((missing->written == std::vector<PageRange>{{5, 1}}));
  CHECK(missing->read.empty());
  CHECK(own_pages(view).empty());
}

TEST_CASE("up to half as many pages as the set has stay a machine's own beside it, and no more") {
  const View view = make_view();
  const WorkingSet set = {.written = {{0, 8}}};
  const auto rewound_after = [&](std::vector<uint64_t> pages) {
    for (const uint64_t page : pages) {
      scribble(view, page);
    }
    const auto missing = rewind_memory(*view.memory, *view.image, set, *view.pagemap);
    REQUIRE(missing.ok());
    check_as_template(view);
    return own_pages(view);
  };
  CHECK((rewound_after({0, 20, 21, 50}) == std::vector<PageRange>{{0, 1}, {20, 2}, {50, 1}}));
  CHECK((rewound_after({40}) == std::vector<PageRange>{{0, 1}, {20, 2}, {40, 1}, {50, 1}}));
  CHECK((rewound_after({41}) == std::vector<PageRange>{{0, 1}}));
}
