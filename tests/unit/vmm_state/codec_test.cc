// The codec: what was written is read back, and nothing is read that is not there.
#include "vmm/state/codec.h"

#include <catch2/catch.hpp>

using ramet::Decoder;
using ramet::Encoder;

TEST_CASE("numbers are little-endian and come back as they were, in their own size") {
  Encoder out;
  out.number(uint8_t{0x12});
  out.number(uint16_t{0x3456});
  out.number(uint32_t{0x789abcde});
  out.number(uint64_t{0x1122334455667788});
  out.number(int32_t{-2});
  out.text("name");
  CHECK(out.size() == 1 + 2 + 4 + 8 + 4 + 4 + 4);
  const auto bytes = out.take();
  CHECK(bytes[1] == std::byte{0x56});
  CHECK(bytes[7] == std::byte{0x88});
  Decoder in(bytes, "test");
  CHECK(in.number<uint8_t>() == 0x12);
  CHECK(in.number<uint16_t>() == 0x3456);
  CHECK(in.number<uint32_t>() == 0x789abcde);
  CHECK(in.number<uint64_t>() == 0x1122334455667788);
  CHECK(in.number<int32_t>() == -2);
  CHECK(in.text(4, "the name") == "name");
  CHECK(in.finish().ok());
}

TEST_CASE("after its first error a decoder gives zeros and keeps the first message") {
  const std::vector<std::byte> bytes(3, std::byte{0xff});
  Decoder in(bytes, "section x");
  CHECK(in.number<uint32_t>() == 0);
  CHECK(in.remaining() == 3);
  CHECK(in.number<uint8_t>() == 0);
  CHECK(in.raw(1).empty());
  CHECK(in.blob(100, "later").empty());
  CHECK(!in.boolean("later"));
  const auto status = in.finish();
  CHECK(status.code() == absl::StatusCode::kDataLoss);
  CHECK(status.message() == "section x: 4 bytes wanted at offset 0, 3 are left");
}

TEST_CASE("a bounded number outside its bounds names itself, the value and the bounds") {
  Encoder out;
  out.number(uint32_t{9});
  const auto bytes = out.take();
  Decoder in(bytes, "machine");
  CHECK(in.bounded<uint32_t>(1, 8, "number of vCPUs") == 1);
  CHECK(in.status().message() == "machine: number of vCPUs is 9, must be 1 to 8");
  Decoder fits(bytes, "machine");
  CHECK(fits.bounded<uint32_t>(9, 9, "n") == 9);
  CHECK(fits.ok());
  Decoder boolean(bytes, "machine");
  CHECK(!boolean.boolean("flag"));
  CHECK(!boolean.ok());
}

TEST_CASE("a blob longer than its limit or the input is an error and allocates nothing") {
  Encoder out;
  out.number(uint32_t{0xffffffff});
  const auto bytes = out.take();
  Decoder limited(bytes, "x");
  CHECK(limited.blob(16, "data").empty());
  CHECK(std::string(limited.status().message()).find("data is 4294967295") != std::string::npos);
  Decoder unlimited(bytes, "x");
  CHECK(unlimited.blob(0xffffffff, "data").empty());
  CHECK(std::string(unlimited.status().message()).find("0 are left") != std::string::npos);
  Decoder text(bytes, "x");
  CHECK(text.text(0xffffffff, "t").empty());
}

TEST_CASE("bytes left over are an error") {
  const std::vector<std::byte> bytes(5);
  Decoder in(bytes, "x");
  in.raw(3);
  CHECK(in.finish().message() == "x: 2 bytes left over after its end");
  Decoder empty({}, "x");
  CHECK(empty.finish().ok());
}
