// The vmstate file: round trips, and every damaged byte is noticed.
#include "vmm/state/sections.h"

#include <cstring>

#include <catch2/catch.hpp>

#include "vmm/state/codec.h"

using ramet::encode_sections;
using ramet::find_section;
using ramet::parse_sections;
using ramet::Section;

namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

Section named(const std::string& name, uint16_t version = 1) {
  return {.name = name, .version = version, .mandatory = true, .bytes = {}};
}

std::vector<Section> sample() {
  return {{.name = "machine", .version = 1, .bytes = bytes_of("abc")},
          {.name = "vcpu0", .version = 3, .mandatory = false, .bytes = {}},
          {.name = std::string(ramet::kMaxSectionName, 'z'), .bytes = bytes_of("0123456789")}};
}

}  // namespace

TEST_CASE("sections come back as they were written, and a second encoding is the same bytes") {
  const auto file = encode_sections(sample());
  const auto parsed = parse_sections(file);
  REQUIRE(parsed.ok());
  CHECK(*parsed == sample());
  CHECK(encode_sections(*parsed) == file);
  CHECK(parse_sections(encode_sections({}))->empty());
}

TEST_CASE("the layout is the documented one") {
  const auto file =
      encode_sections(std::vector<Section>{{.name = "a", .version = 2, .bytes = bytes_of("x")}});
  REQUIRE(file.size() == 16 + 1 + 1 + 2 + 1 + 4 + 1 + 8);
  CHECK(std::memcmp(file.data(),
                    "RAMETVMS\x01\x00\x01\x00\x01\x00\x00\x00\x01"
                    "a\x02\x00\x01\x01\x00\x00\x00x",
                    26) == 0);
}

TEST_CASE("every truncation is an error") {
  const auto file = encode_sections(sample());
  for (size_t size = 0; size < file.size(); ++size) {
    INFO(size);
    CHECK(parse_sections(std::span(file).first(size)).status().code() ==
          absl::StatusCode::kDataLoss);
  }
  auto longer = file;
  longer.push_back(std::byte{0});
  CHECK(!parse_sections(longer).ok());
}

TEST_CASE("every flipped bit is an error") {
  const auto file = encode_sections(sample());
  for (size_t i = 0; i < file.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      auto damaged = file;
      damaged[i] ^= static_cast<std::byte>(1u << bit);
      INFO("byte " << i << " bit " << bit);
      CHECK(!parse_sections(damaged).ok());
    }
  }
}

TEST_CASE("another format or architecture is refused as such, not as damage") {
  auto file = encode_sections(sample());
  file[8] = std::byte{2};
  CHECK(parse_sections(file).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(std::string(parse_sections(file).status().message()).find("format version 2") !=
        std::string::npos);
  file = encode_sections(sample());
  file[10] = std::byte{2};
  CHECK(parse_sections(file).status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a section twice, too many sections, and a name of other characters are refused") {
  const std::vector<Section> twice = {named("a"), named("b"), named("a")};
  CHECK(std::string(parse_sections(encode_sections(twice)).status().message())
            .find("section a is there twice") != std::string::npos);
  std::vector<Section> many;
  for (size_t i = 0; i <= ramet::kMaxSections; ++i) {
    many.push_back(named("s" + std::to_string(i)));
  }
  CHECK(!parse_sections(encode_sections(many)).ok());
  many.pop_back();
  CHECK(parse_sections(encode_sections(many)).ok());
  for (const std::string& name : {std::string("A"), std::string("a b"), std::string("a/b"),
                                  std::string("a\0", 2), std::string(), std::string(33, 'a')}) {
    CHECK(!parse_sections(encode_sections(std::vector<Section>{named(name)})).ok());
  }
}

TEST_CASE("a section that claims more bytes than there are allocates nothing for them") {
  ramet::Encoder out;
  const auto empty = encode_sections({});
  out.raw(std::span(empty).first(12));
  out.number(uint32_t{1});
  out.number(uint8_t{1});
  out.raw(bytes_of("a"));
  out.number(uint16_t{1});
  out.number(uint8_t{1});
  const auto head = out.take();
  for (const uint32_t claim : {uint32_t{1}, uint32_t{ramet::kMaxSectionBytes},
                               uint32_t{ramet::kMaxSectionBytes + 1}, ~uint32_t{0}}) {
    ramet::Encoder claimed;
    claimed.raw(head);
    claimed.number(claim);
    CHECK(parse_sections(claimed.take()).status().code() == absl::StatusCode::kDataLoss);
  }
  CHECK(!parse_sections(std::vector<std::byte>(ramet::kMaxStateBytes + 1)).ok());
}

TEST_CASE("a section is found by name and up to the version its reader knows") {
  const auto sections = sample();
  REQUIRE(find_section(sections, "vcpu0", 3).ok());
  CHECK((*find_section(sections, "vcpu0", 3))->version == 3);
  CHECK(find_section(sections, "vcpu0", 2).status().code() ==
        absl::StatusCode::kFailedPrecondition);
  CHECK(find_section(sections, "vcpu1", 9).status().code() == absl::StatusCode::kNotFound);
  const std::vector<Section> zero = {named("a", 0)};
  CHECK(find_section(zero, "a", 9).status().code() == absl::StatusCode::kFailedPrecondition);
}
