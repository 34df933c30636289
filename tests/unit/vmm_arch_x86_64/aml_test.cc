#include "vmm/arch/x86_64/aml.h"

#include <initializer_list>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace aml = ramet::aml;

namespace {

aml::Bytes bytes(std::initializer_list<int> values) {
  aml::Bytes result;
  for (const int value : values) {
    result.push_back(static_cast<std::byte>(value));
  }
  return result;
}

uint64_t at(const aml::Bytes& from, size_t index) { return std::to_integer<uint64_t>(from[index]); }

// ACPI 6.5, 20.2.4, read back.
uint64_t decode_package_length(const aml::Bytes& encoded) {
  const uint64_t more = at(encoded, 0) >> 6;
  REQUIRE(encoded.size() == 1 + more);
  if (more == 0) {
    return at(encoded, 0);
  }
  REQUIRE((at(encoded, 0) & 0x30) == 0);
  uint64_t value = at(encoded, 0) & 0xF;
  for (size_t i = 0; i < more; ++i) {
    value |= at(encoded, 1 + i) << (4 + 8 * i);
  }
  return value;
}

}  // namespace

TEST_CASE("a package length counts itself and takes one byte more at each limit") {
  struct Edge {
    size_t body;
    size_t encoded;
  };
  const std::vector<Edge> edges = {{0, 1},    {62, 1},        {63, 2},        {4093, 2},
                                   {4094, 3}, {1'048'572, 3}, {1'048'573, 4}, {268'435'451, 4}};
  for (const Edge& edge : edges) {
    const aml::Bytes encoded = aml::package_length(edge.body);
    CHECK(encoded.size() == edge.encoded);
    CHECK(decode_package_length(encoded) == edge.body + edge.encoded);
  }
}

TEST_CASE("a package length of every small body decodes to the body and its own size") {
  for (size_t body = 0; body < 5000; ++body) {
    const aml::Bytes encoded = aml::package_length(body);
    REQUIRE(decode_package_length(encoded) == body + encoded.size());
  }
}

TEST_CASE("integers take their shortest encoding") {
  CHECK(aml::integer(0) == bytes({0x00}));
  CHECK(aml::integer(1) == bytes({0x01}));
  CHECK(aml::integer(2) == bytes({0x0A, 2}));
  CHECK(aml::integer(0xFF) == bytes({0x0A, 0xFF}));
  CHECK(aml::integer(0x100) == bytes({0x0B, 0x00, 0x01}));
  CHECK(aml::integer(0xFFFF) == bytes({0x0B, 0xFF, 0xFF}));
  CHECK(aml::integer(0x1'0000) == bytes({0x0C, 0, 0, 1, 0}));
  CHECK(aml::integer(0xFFFF'FFFF) == bytes({0x0C, 0xFF, 0xFF, 0xFF, 0xFF}));
  CHECK(aml::integer(0x1'0000'0000) == bytes({0x0E, 0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST_CASE("paths of zero, one, two and three segments each have their own prefix") {
  CHECK(aml::path("\\") == bytes({'\\', 0}));
  CHECK(aml::path("GED") == bytes({'G', 'E', 'D', '_'}));
  CHECK(aml::path("\\_SB_.VGEN") == bytes({'\\', 0x2E, '_', 'S', 'B', '_', 'V', 'G', 'E', 'N'}));
  CHECK(aml::path("A.B.C") ==
        bytes({0x2F, 3, 'A', '_', '_', '_', 'B', '_', '_', '_', 'C', '_', '_', '_'}));
}

TEST_CASE("an EISA id is compressed as the specification's example") {
  CHECK(aml::eisa_id("PNP0501") == bytes({0x0C, 0x41, 0xD0, 0x05, 0x01}));
  CHECK(aml::eisa_id("PNP0A03") == bytes({0x0C, 0x41, 0xD0, 0x0A, 0x03}));
}

TEST_CASE("a method states its argument count and is serialized") {
  CHECK(aml::method("_EVT", 1, aml::argument(0)) ==
        bytes({0x14, 7, '_', 'E', 'V', 'T', 0x09, 0x68}));
}

TEST_CASE("a resource template is a buffer of its descriptors and the end tag") {
  CHECK(aml::resources({aml::io_port(0x3F8, 8), aml::isa_irq(4)}) ==
        bytes({0x11, 17, 0x0A, 14,                     // buffer of 14 bytes
               0x47, 1, 0xF8, 0x03, 0xF8, 0x03, 1, 8,  // IO
               0x23, 0x10, 0x00, 0x01,                 // IRQ
               0x79, 0x00}));
}

TEST_CASE("32-bit memory and interrupt descriptors have the specification's layout") {
  CHECK(aml::memory32_fixed(0xD000'1000, 0x200) ==
        bytes({0x86, 9, 0, 1, 0x00, 0x10, 0x00, 0xD0, 0x00, 0x02, 0x00, 0x00}));
  CHECK(aml::edge_interrupt(17) == bytes({0x89, 6, 0, 0b0011, 1, 17, 0, 0, 0}));
}

TEST_CASE("a package of no elements is three bytes") {
  CHECK(aml::package({}) == bytes({0x12, 2, 0}));
}
