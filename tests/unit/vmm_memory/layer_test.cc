// Layers of memory images: a machine's own pages over what it was forked from, in few parts, at any
// depth.
#include <fcntl.h>

#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "vmm/base/fault_plan.h"
#include "vmm/base/syscall.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/layer_plan.h"
#include "vmm/memory/memory_image.h"
#include "vmm/memory/page_capture.h"
#include "vmm/memory/pagemap.h"

using namespace ramet;

namespace {

using Image = std::shared_ptr<const MemoryImage>;

constexpr uint64_t kPages = 512;
constexpr uint64_t kBytes = kPages * kPageSize;

// Two regions, so that parts may lie across the hole between them.
std::vector<MemoryRegion> two_regions() {
  constexpr uint64_t kFirst = 200 * kPageSize;
  return {{.start = {0}, .size = kFirst, .file_offset = 0},
          {.start = {kBytes * 4}, .size = kBytes - kFirst, .file_offset = kFirst}};
}

GuestAddr address_of(uint64_t page) {
  const auto regions = two_regions();
  const uint64_t offset = page * kPageSize;
  const MemoryRegion& region = regions[offset < regions[1].file_offset ? 0 : 1];
  return GuestAddr{region.start.value + offset - region.file_offset};
}

Extent pages(uint64_t first, uint64_t count) { return {first * kPageSize, count * kPageSize}; }

// Every page but those that `is_hole` says holds its number.
template <typename IsHole>
Image make_base(IsHole is_hole) {
  std::vector<Extent> extents;
  for (uint64_t page = 0; page < kPages; ++page) {
    if (is_hole(page)) {
      continue;
    }
    if (!extents.empty() && extents.back().end() == page * kPageSize) {
      extents.back().size += kPageSize;
    } else {
      extents.push_back(pages(page, 1));
    }
  }
  auto image =
      MemoryImage::from_extents(kBytes, extents, [](uint64_t offset, std::span<std::byte> bytes) {
        for (uint64_t at = 0; at < bytes.size(); at += kPageSize) {
          bytes[at] = static_cast<std::byte>((offset + at) / kPageSize % 251 + 1);
        }
        return Status();
      });
  REQUIRE(image.ok());
  return *image;
}

std::unique_ptr<GuestMemory> fork_of(const Image& image) {
  auto memory = GuestMemory::create(image->view(), two_regions(), MapMode::kPrivate);
  REQUIRE(memory.ok());
  return *std::move(memory);
}

const Pagemap& pagemap() {
  static const auto opened = Pagemap::open();
  REQUIRE(opened.ok());
  return **opened;
}

// Transfers of entries of /proc/self/pagemap, which a kernel without PAGEMAP_SCAN is asked for
// first. It cuts none of them short, and refuses less than an entry.
uint64_t pagemap_transfers(const GuestMemory& memory) {
  sys::FaultPlan none(sys::Call::kAny, UINT64_MAX, sys::kShortTransfer);
  none.arm();
  const auto pages = pagemap().private_pages(memory);
  none.disarm();
  REQUIRE(pages.ok());
  return none.seen();
}

StatusOr<Image> try_branch(const Image& below, const GuestMemory& memory, uint64_t expected = 0) {
  RAMET_ASSIGN_OR_RETURN(PageCapture capture, PageCapture::create(expected));
  RAMET_RETURN_IF_ERROR(capture.take(pagemap(), memory));
  return below->with_pages(capture);
}

Image branch(const Image& below, const GuestMemory& memory, uint64_t expected = 0) {
  auto image = try_branch(below, memory, expected);
  INFO(image.status().ToString());
  REQUIRE(image.ok());
  return *image;
}

std::vector<std::byte> bytes_of(const GuestMemory& memory) {
  std::vector<std::byte> bytes(kBytes);
  for (const MemoryRegion& region : memory.regions()) {
    REQUIRE(
        memory.read(region.start, std::span(bytes).subspan(region.file_offset, region.size)).ok());
  }
  return bytes;
}

std::vector<std::byte> bytes_of(const MemoryImage& image) {
  std::vector<std::byte> bytes(kBytes);
  REQUIRE(image.read(0, bytes).ok());
  return bytes;
}

// What the image says that it holds is what it holds.
void check_extents_name_all(const MemoryImage& image, const std::vector<std::byte>& bytes) {
  REQUIRE(check_extents(kBytes, image.extents()).ok());
  std::vector<bool> named(kPages);
  for (const Extent& extent : image.extents()) {
    for (uint64_t at = extent.offset; at < extent.end(); at += kPageSize) {
      named[at / kPageSize] = true;
    }
  }
  for (uint64_t page = 0; page < kPages; ++page) {
    const auto one = std::span(bytes).subspan(page * kPageSize, kPageSize);
    const bool zero = std::ranges::all_of(one, [](std::byte b) { return b == std::byte{0}; });
    if (!named[page] && !zero) {
      FAIL("page " << page << " holds something and is not named");
    }
  }
}

bool no_holes(uint64_t) { return false; }

}  // namespace

TEST_CASE("a layer's fork reads as the machine it was taken of, and the machine goes on alone") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  REQUIRE(parent->write_object(address_of(7), uint64_t{1111}).ok());
  REQUIRE(parent->write_object(address_of(300), uint64_t{2222}).ok());
  const Image layer = branch(base, *parent);
  const auto before = bytes_of(*parent);
  const auto child = fork_of(layer);
  CHECK(bytes_of(*child) == before);
  CHECK(bytes_of(*layer) == before);
  REQUIRE(parent->write_object(address_of(7), uint64_t{3333}).ok());
  REQUIRE(child->write_object(address_of(300), uint64_t{4444}).ok());
  CHECK(*child->read_object<uint64_t>(address_of(7)) == 1111);
  CHECK(*parent->read_object<uint64_t>(address_of(300)) == 2222);
  REQUIRE(child->drop_private().ok());
  CHECK(bytes_of(*child) == before);
  CHECK(bytes_of(*fork_of(base)) == bytes_of(*base));
}

TEST_CASE("a layer shares its base: two far pages are two parts of one page each") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  REQUIRE(parent->write_object(address_of(7), uint64_t{1}).ok());
  REQUIRE(parent->write_object(address_of(300), uint64_t{2}).ok());
  const Image layer = branch(base, *parent);
  CHECK(layer->parts() == std::vector<LayerPart>{{pages(7, 1), 1}, {pages(300, 1), 1}});
  CHECK(layer->fd() == base->fd());
  CHECK(layer->extents() == base->extents());
}

TEST_CASE("a page that became zero is zero in the layer, though its base holds something") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  REQUIRE(parent->fill_zero({address_of(9), kPageSize}).ok());
  const Image layer = branch(base, *parent);
  CHECK(*fork_of(layer)->read_object<uint64_t>(address_of(9)) == 0);
  CHECK(layer->extents() == std::vector<Extent>{pages(0, 9), pages(10, kPages - 10)});
}

TEST_CASE("a machine that wrote nothing gives the image that it was forked from") {
  const Image base = make_base(no_holes);
  const Image layer = branch(base, *fork_of(base));
  CHECK(layer->parts().empty());
  CHECK(layer->fd() == base->fd());
  CHECK(bytes_of(*layer) == bytes_of(*base));
}

TEST_CASE("pages scattered over all of it become one file, with no part over another") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  for (uint64_t page = 0; page < kPages; page += 4) {
    REQUIRE(parent->write_object(address_of(page), page + 1).ok());
  }
  const Image layer = branch(base, *parent);
  CHECK(layer->parts().empty());
  CHECK(layer->fd() != base->fd());
  CHECK(bytes_of(*layer) == bytes_of(*parent));
}

TEST_CASE(
    "a chain of twenty random layers is each time its machine, in a bounded number of parts") {
  std::mt19937 random(4711);
  const bool sparse = GENERATE(false, true);
  Image image = make_base([&](uint64_t page) { return sparse && page % 32 >= 4; });
  size_t layered = 0;
  for (int depth = 0; depth < 20; ++depth) {
    const auto machine = fork_of(image);
    for (int run = 0; run < 6; ++run) {
      const uint64_t first = random() % kPages;
      const uint64_t count = std::min<uint64_t>(1 + random() % 12, kPages - first);
      for (uint64_t page = first; page < first + count; ++page) {
        if (random() % 5 == 0) {
          REQUIRE(machine->fill_zero({address_of(page), kPageSize}).ok());
        } else {
          REQUIRE(machine->write_object(address_of(page), uint64_t{random()} + 1).ok());
        }
      }
    }
    const auto bytes = bytes_of(*machine);
    image = branch(image, *machine, static_cast<uint64_t>(depth % 3) * 64 * kPageSize);
    INFO("depth " << depth << ", " << image->parts().size() << " parts");
    REQUIRE(image->parts().size() <= MemoryView::kMaxParts);
    REQUIRE(bytes_of(*image) == bytes);
    REQUIRE(bytes_of(*fork_of(image)) == bytes);
    check_extents_name_all(*image, bytes);
    layered += image->parts().empty() ? 0 : 1;
  }
  CHECK(layered > 5);
}

TEST_CASE("the dearest gaps are left to the image below, up to the number of parts") {
  const std::vector<PageRange> own = {{10, 1}, {12, 1}, {100, 2}, {103, 1}, {400, 1}};
  const std::vector<Extent> data = {pages(0, kPages)};
  const LayerPlan plan = plan_layer(own, {}, data, 3);
  CHECK(plan.fresh == std::vector<Extent>{pages(10, 3), pages(100, 4), pages(400, 1)});
  CHECK(plan.copied_bytes == 2 * kPageSize);
}

TEST_CASE("a gap in which the image below holds nothing is filled at no cost") {
  const std::vector<PageRange> own = {{10, 1}, {100, 1}};
  const std::vector<Extent> data = {pages(0, 5), pages(200, 5)};
  const LayerPlan plan = plan_layer(own, {}, data, 8);
  CHECK(plan.fresh == std::vector<Extent>{pages(10, 91)});
  CHECK(plan.copied_bytes == 0);
}

TEST_CASE("older parts stay where they lie between or beyond, and are copied when too many") {
  const std::vector<PageRange> own = {{100, 1}};
  const std::vector<Extent> data = {pages(0, kPages)};
  const std::vector<LayerPart> older = {{pages(10, 5), 1}, {pages(98, 5), 2}, {pages(300, 4), 1}};
  const LayerPlan roomy = plan_layer(own, older, data, 8);
  CHECK(roomy.fresh == std::vector<Extent>{pages(100, 1)});
  CHECK(roomy.older ==
        std::vector<LayerPart>{
            {pages(10, 5), 1}, {pages(98, 2), 2}, {pages(101, 2), 2}, {pages(300, 4), 1}});
  const LayerPlan tight = plan_layer(own, older, data, 3);
  CHECK(tight.fresh.size() + tight.older.size() <= 3);
  CHECK(tight.fresh == std::vector<Extent>{pages(10, 91)});
  CHECK(tight.older == std::vector<LayerPart>{{pages(101, 2), 2}, {pages(300, 4), 1}});
  const LayerPlan one = plan_layer(own, older, data, 1);
  CHECK(one.fresh == std::vector<Extent>{pages(10, 294)});
  CHECK(one.older.empty());
}

TEST_CASE("memory of parts that overlap, reach beyond their file or are too many is refused") {
  const Image base = make_base(no_holes);
  const auto code = [&](std::vector<MemoryView::Part> parts) {
    const MemoryView view = {.fd = base->fd(), .parts = std::move(parts)};
    return GuestMemory::create(view, two_regions(), MapMode::kPrivate).status().code();
  };
  const int fd = base->fd();
  const auto part = [&](uint64_t first, uint64_t count) {
    return MemoryView::Part{first * kPageSize, count * kPageSize, fd};
  };
  CHECK(code({part(0, 1), part(1, 1)}) == absl::StatusCode::kOk);
  CHECK(code({part(0, 2), part(1, 1)}) == absl::StatusCode::kInvalidArgument);
  CHECK(code({part(5, 1), part(1, 1)}) == absl::StatusCode::kInvalidArgument);
  CHECK(code({part(1, 0)}) == absl::StatusCode::kInvalidArgument);
  CHECK(code({part(kPages - 1, 2)}) == absl::StatusCode::kInvalidArgument);
  CHECK(code({{.offset = ~uint64_t{4095}, .size = 8192, .fd = fd}}) ==
        absl::StatusCode::kInvalidArgument);
  CHECK(code({{.offset = 1, .size = kPageSize, .fd = fd}}) == absl::StatusCode::kInvalidArgument);
  std::vector<MemoryView::Part> many;
  for (uint64_t i = 0; i <= MemoryView::kMaxParts; ++i) {
    many.push_back(part(2 * i, 1));
  }
  CHECK(code(many) == absl::StatusCode::kInvalidArgument);
  many.pop_back();
  CHECK(code(many) == absl::StatusCode::kOk);
}

TEST_CASE("a layer whose n-th call fails is an error, and the machine is as it was") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  for (const uint64_t page : {7u, 9u, 300u}) {
    REQUIRE(parent->write_object(address_of(page), uint64_t{5}).ok());
  }
  const auto before = bytes_of(*parent);
  pagemap();
  uint64_t n = 1;
  for (bool fired = true; fired; ++n) {
    sys::FaultPlan plan(sys::Call::kAny, n, ENOSPC);
    plan.arm();
    const auto image = try_branch(base, *parent, 3 * kPageSize);
    plan.disarm();
    fired = plan.fired();
    INFO("call " << n << ": " << image.status().ToString());
    CHECK(image.ok() == !fired);
    CHECK(bytes_of(*parent) == before);
  }
  CHECK(n > 6);
}

TEST_CASE("a copy of pages that is cut short goes on to its end") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  for (const uint64_t page : {7u, 9u, 300u}) {
    REQUIRE(parent->write_object(address_of(page), uint64_t{5}).ok());
  }
  const uint64_t first = pagemap_transfers(*parent) + 1;
  for (uint64_t n = first; n < first + 20; ++n) {
    sys::FaultPlan plan(sys::Call::kAny, n, sys::kShortTransfer);
    plan.arm();
    const auto image = try_branch(base, *parent);
    plan.disarm();
    INFO("transfer " << n << ": " << image.status().ToString());
    REQUIRE(image.ok());
    CHECK(bytes_of(**image) == bytes_of(*parent));
  }
}

TEST_CASE("pages are captured into another's file, and are what it holds when it is read there") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  REQUIRE(parent->write_object(address_of(7), uint64_t{1111}).ok());
  REQUIRE(parent->write_object(address_of(9), uint64_t{2222}).ok());
  const uint64_t ahead = GENERATE(0u, 4096u, 1u << 30);
  auto file = create_memfd("ramet-test", 2 * kPageSize);
  REQUIRE(file.ok());
  const sys::Result theirs = sys::fcntl(file->get(), F_DUPFD_CLOEXEC, 0);
  REQUIRE(theirs.ok());
  auto capture = PageCapture::create_in(UniqueFd(static_cast<int>(theirs.value)), ahead);
  INFO(capture.status().ToString());
  REQUIRE(capture.ok());
  REQUIRE(capture->take(pagemap(), *parent).ok());
  const auto image = base->with_pages(PageCapture::of(*std::move(file), capture->pages()));
  REQUIRE(image.ok());
  CHECK(bytes_of(**image) == bytes_of(*parent));
}

TEST_CASE("more pages than there is room for are an error, and the file is not grown") {
  const Image base = make_base(no_holes);
  const auto parent = fork_of(base);
  for (const uint64_t page : std::initializer_list<uint64_t>{7, 8, 9}) {
    REQUIRE(parent->write_object(address_of(page), uint64_t{1111}).ok());
  }
  const uint64_t room = GENERATE(0u, 4096u, 2u * 4096u + 4095u);
  auto file = create_memfd("ramet-test", room);
  REQUIRE(file.ok());
  const int fd = file->get();
  auto capture = PageCapture::create_in(*std::move(file), 0);
  REQUIRE(capture.ok());
  CHECK(absl::IsResourceExhausted(capture->take(pagemap(), *parent)));
  const auto size = sys::file_size(fd, "a test");
  REQUIRE(size.ok());
  CHECK(*size == room);
}

TEST_CASE("a file that holds fewer pages than are said to be in it is an error") {
  const Image base = make_base(no_holes);
  auto file = create_memfd("ramet-test", kPageSize);
  REQUIRE(file.ok());
  CHECK_FALSE(base->with_pages(PageCapture::of(*std::move(file), {{7, 2}})).ok());
}
