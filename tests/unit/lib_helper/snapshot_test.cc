// What a helper says of a snapshot: what is written is read the same, and nothing that reaches
// beyond its machine.
#include "lib/helper/wire/snapshot.h"

#include <fstream>
#include <iterator>
#include <string>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "vmm/state/sections.h"

using namespace ramet;
using namespace ramet::helper;

namespace {

constexpr SnapshotBounds kBounds = {.pages = 4096, .blocks = 256};

// That of a template which a release once wrote.
InstanceState some_state() {
  std::ifstream file(testing::source_dir() + "/tests/golden/v1/vmstate.bin", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const auto sections = parse_sections(std::as_bytes(std::span(bytes)));
  REQUIRE(sections.ok());
  auto state = instance_state_from(*sections);
  REQUIRE(state.ok());
  return *std::move(state);
}

SnapshotResult some_result() {
  return {.state = some_state(),
          .layers = {{{0, 1}, {7, 3}}, {{255, 1}}},
          .pages = {{0, 2}, {5, 1}, {4095, 1}}};
}

bool is_refused(const SnapshotResult& result) {
  return !decode_snapshot(encode(result), kBounds).ok();
}

}  // namespace

TEST_CASE("a snapshot's state, layers and pages come back as they were") {
  const SnapshotResult result = some_result();
  const auto bytes = encode(result);
  const auto read = decode_snapshot(bytes, kBounds);
  INFO(read.status().ToString());
  REQUIRE(read.ok());
  CHECK(read->layers == result.layers);
  CHECK(read->pages == result.pages);
  CHECK(encode(*read) == bytes);
}

TEST_CASE("a snapshot that is cut anywhere, or has more behind it, is refused") {
  auto bytes = encode(some_result());
  for (size_t size = 0; size < bytes.size(); size += size < bytes.size() - 200 ? 97 : 1) {
    INFO(size << " of " << bytes.size() << " bytes");
    CHECK_FALSE(decode_snapshot(std::span(bytes).first(size), kBounds).ok());
  }
  bytes.push_back(std::byte{0});
  CHECK_FALSE(decode_snapshot(bytes, kBounds).ok());
}

TEST_CASE("pages and blocks beyond the machine, out of order, or twice, are refused") {
  SnapshotResult result = some_result();
  result.pages = {{4095, 2}};
  CHECK(is_refused(result));
  result.pages = {{5, 1}, {4, 1}};
  CHECK(is_refused(result));
  result.pages = {{5, 2}, {6, 1}};
  CHECK(is_refused(result));
  result.pages = {{5, 0}};
  CHECK(is_refused(result));
  result.pages = {{1, ~uint64_t{0}}};
  CHECK(is_refused(result));
  result = some_result();
  result.layers = {{{255, 2}}};
  CHECK(is_refused(result));
  result.layers = {{{9, 1}, {3, 1}}};
  CHECK(is_refused(result));
  CHECK_FALSE(decode_snapshot(encode(some_result()), {.pages = 4096, .blocks = 0}).ok());
}
