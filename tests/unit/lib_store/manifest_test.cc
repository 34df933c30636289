// manifest.json: back as it was, and every other text refused.
#include "lib/store/manifest.h"

#include <limits>
#include <string>

#include <absl/strings/str_replace.h>

#include "tests/unit/lib_store/store_support.h"

using namespace ramet;
using ramet::testing::says;

namespace {

Manifest sample() {
  return {.kernel_release = "6.12.0-cloud-amd64",
          .created_unix_seconds = 1'790'000'000,
          .vcpus = 2,
          .memory_bytes = uint64_t{128} << 20,
          .stored_memory_bytes = uint64_t{40} << 20,
          .scratch_bytes = uint64_t{64} << 20,
          .root = {.path = "/srv/images/python \"3\".img",
                   .size = 123'456'789,
                   .digest = 0xfedcba9876543210},
          .state_bytes = 54'321,
          .state_digest = 0x0123456789abcdef};
}

// The sample's text with one piece of it replaced.
std::string with(const std::string& from, const std::string& to) {
  const std::string text = format_manifest(sample());
  REQUIRE(text.find(from) != std::string::npos);
  return absl::StrReplaceAll(text, {{from, to}});
}

// The sample's text with a member put in front.
std::string with_member(const std::string& member) {
  return "{" + member + "," + format_manifest(sample()).substr(1);
}

Status refusal(const std::string& text) { return parse_manifest(text).status(); }

std::string repeat(const std::string& piece, size_t times) {
  std::string text;
  for (size_t i = 0; i < times; ++i) {
    text += piece;
  }
  return text;
}

}  // namespace

TEST_CASE("a manifest comes back as it was written") {
  const auto back = parse_manifest(format_manifest(sample()));
  REQUIRE(back.ok());
  CHECK(*back == sample());
  CHECK(format_manifest(*back) == format_manifest(sample()));
}

TEST_CASE("a manifest with all numbers at their least or their most comes back") {
  CHECK(*parse_manifest(format_manifest(Manifest{})) == Manifest{});
  Manifest most = sample();
  most.created_unix_seconds = std::numeric_limits<uint64_t>::max();
  most.vcpus = x86::kMaxVcpus;
  most.memory_bytes = x86::kMaxMemoryBytes;
  most.stored_memory_bytes = most.memory_bytes;
  most.scratch_bytes = block::LayerStack::kMaxDiskBytes;
  most.root = {std::string(4096, '/'), std::numeric_limits<uint64_t>::max(),
               std::numeric_limits<uint64_t>::max()};
  most.state_bytes = kMaxStateBytes;
  most.state_digest = std::numeric_limits<uint64_t>::max();
  const auto back = parse_manifest(format_manifest(most));
  REQUIRE(back.ok());
  CHECK(*back == most);
}

TEST_CASE("a kernel release that is no UTF-8 is written as what JSON can hold") {
  Manifest odd = sample();
  odd.kernel_release = "6.1\xff\xfe\x01";
  const auto back = parse_manifest(format_manifest(odd));
  REQUIRE(back.ok());
  CHECK(back->kernel_release.substr(0, 3) == "6.1");
  CHECK(*parse_manifest(format_manifest(*back)) == *back);
}

TEST_CASE("every shorter part of a manifest is refused") {
  const std::string text = format_manifest(sample());
  REQUIRE(text.back() == '\n');  // which may be missing
  for (size_t size = 0; size + 1 < text.size(); ++size) {
    CHECK(refusal(text.substr(0, size)).code() == absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("a manifest with any bit inverted is refused") {
  const std::string text = format_manifest(sample());
  for (size_t at = 0; at < text.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string altered = text;
      altered[at] = static_cast<char>(altered[at] ^ (1 << bit));
      INFO("bit " << bit << " of byte " << at << ": " << altered);
      CHECK_FALSE(parse_manifest(altered).ok());
    }
  }
}

TEST_CASE("a digest that is no 16 lower-case digits is refused, whatever its value") {
  for (const std::string bad : {"FEDCBA9876543210", "0xdcba9876543210", " fedcba987654321",
                                "fedcba987654321", "+edcba9876543210", ""}) {
    CHECK(says(refusal(with("fedcba9876543210", bad)), "hexadecimal"));
  }
}

TEST_CASE("what is no object is refused") {
  for (const std::string bad : {"", " ", "null", "1", "\"text\"", "[]", "[{}]", "{", "{}", "}",
                                "{}{}", "{\"a\"}", "\xff"}) {
    INFO(bad);
    CHECK(refusal(bad).code() == absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("nesting as deep as the size limit allows is refused") {
  for (const std::string open : {"[", "{\"a\":"}) {
    const std::string close = open == "[" ? "]" : "}";
    const size_t depth = 60'000 / (open.size() + close.size());
    const std::string inner = open == "[" ? "" : "1";
    const std::string nested = repeat(open, depth) + inner + repeat(close, depth);
    CHECK(refusal(nested).code() == absl::StatusCode::kDataLoss);
    CHECK(refusal(repeat(open, 60'000 / open.size())).code() == absl::StatusCode::kDataLoss);
    const std::string inside = with_member("\"x\":" + nested);
    REQUIRE(inside.size() < kMaxManifestBytes);
    CHECK(says(refusal(inside), "a list or an object"));
  }
}

TEST_CASE("a member of the wrong type, missing or beyond its limit is refused by name") {
  for (const std::string bad : {"\"2\"", "2.0", "-2", "null", "true", "9", "1e300",
                                "99999999999999999999999999", "18446744073709551615"}) {
    INFO(bad);
    CHECK(says(refusal(with("\"vcpus\": 2", "\"vcpus\": " + bad)), "\"vcpus\""));
  }
  CHECK(says(refusal(with("\"vcpus\": 2", "\"vcpus\": 1e400")), "no JSON object"));
  CHECK(says(refusal(with("\"vcpus\": 2", "\"vcpus\": [2]")), "a list or an object"));
  CHECK(says(refusal(with("\"vcpus\": 2", "\"vcpu\": 2")), "\"vcpus\""));
  CHECK(says(refusal(with("\"6.12.0-cloud-amd64\"", "6")), "\"kernel_release\""));
  CHECK(says(refusal(with("6.12.0-cloud-amd64", std::string(4097, 'x'))), "\"kernel_release\""));
  // More stored than there is.
  CHECK(
      says(refusal(with("\"stored_memory_bytes\": 41943040", "\"stored_memory_bytes\": 134217729")),
           "\"stored_memory_bytes\""));
}

TEST_CASE("a member more or a number changed does not fit the manifest's own digest") {
  CHECK(says(refusal(with_member("\"note\":\"x\"")), "was altered"));
  CHECK(says(refusal(with("\"vcpus\": 2", "\"vcpus\": 3")), "was altered"));
}

TEST_CASE(
    "another format is refused as such, and a newer version as one that this library cannot read") {
  CHECK(says(refusal(with("ramet-template", "tar")), "not the manifest of a template"));
  const Status newer = refusal(with("\"version\": 1", "\"version\": 2"));
  CHECK(newer.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(says(newer, "version 2, this library reads 1"));
}

TEST_CASE("a manifest larger than its limit is refused before it is read") {
  CHECK(says(refusal(std::string(kMaxManifestBytes + 1, ' ')), "more than the limit of 65536"));
  const std::string text = format_manifest(sample());
  CHECK(parse_manifest(text + std::string(kMaxManifestBytes - text.size(), ' ')).ok());
}
