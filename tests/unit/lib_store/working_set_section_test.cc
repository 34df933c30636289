// A working set in its section: back as it was, or refused.
#include "lib/store/working_set_section.h"

#include <catch2/catch.hpp>

using namespace ramet;

namespace {

const WorkingSet kSet = {.written = {{0, 1}, {10, 5}, {999, 1}}, .read = {{2, 3}, {20, 100}}};

StatusOr<WorkingSet> read(const Section& section, uint64_t pages = 1000) {
  return working_set_from({&section, 1}, pages);
}

}  // namespace

TEST_CASE("a working set comes back as it was, and a library may do without it") {
  const Section section = to_section(kSet);
  CHECK_FALSE(section.mandatory);
  const auto same = read(section);
  REQUIRE(same.ok());
  CHECK(*same == kSet);
}

TEST_CASE("without the section, or with one of a later version, there is none") {
  const auto none = working_set_from({}, 1000);
  REQUIRE(none.ok());
  CHECK(none->empty());
  Section later = to_section(kSet);
  later.version = 2;
  const auto unknown = read(later);
  REQUIRE(unknown.ok());
  CHECK(unknown->empty());
}

TEST_CASE("a working set that is cut, too long, or names pages that are not there is refused") {
  const Section whole = to_section(kSet);
  for (size_t size = 0; size < whole.bytes.size(); ++size) {
    Section cut = whole;
    cut.bytes.resize(size);
    CHECK(absl::IsDataLoss(read(cut).status()));
  }
  Section longer = whole;
  longer.bytes.push_back(std::byte{0});
  CHECK(absl::IsDataLoss(read(longer).status()));
  CHECK(absl::IsDataLoss(read(whole, 999).status()));
  CHECK(absl::IsDataLoss(read(to_section({.written = {{1, 2}}, .read = {{2, 1}}})).status()));
}

TEST_CASE("more ranges than a section holds are left out from the end") {
  WorkingSet large;
  for (uint64_t page = 0; page < 1'000'000; page += 2) {
    large.written.push_back({page, 1});
  }
  const Section section = to_section(large);
  CHECK(section.bytes.size() <= kMaxSectionBytes);
  const auto kept = read(section, 1'000'000);
  REQUIRE(kept.ok());
  CHECK(kept->written.size() > 100'000);
  CHECK(kept->written.front() == large.written.front());
}
