#include "vmm/loader/cmdline.h"

#include <string>
#include <string_view>

#include <catch2/catch.hpp>

TEST_CASE("a command line is encoded with one NUL at its end") {
  const auto bytes = ramet::encode_command_line("quiet", 10);
  REQUIRE(bytes.ok());
  REQUIRE(bytes->size() == 6);
  CHECK((*bytes)[0] == std::byte{'q'});
  CHECK((*bytes)[5] == std::byte{0});
  CHECK(ramet::encode_command_line("", 10)->size() == 1);
}

TEST_CASE("a command line as long as the limit fits and one byte more does not") {
  CHECK(ramet::encode_command_line(std::string(2047, 'x'), 2047).ok());
  const auto bytes = ramet::encode_command_line(std::string(2048, 'x'), 2047);
  CHECK(bytes.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(bytes.status().message() ==
        "command line of 2048 bytes is longer than the kernel's limit of 2047");
}

TEST_CASE("a NUL or a line feed within a command line is refused with its place") {
  CHECK(ramet::encode_command_line(std::string_view("a\0b", 3), 10).status().message() ==
        "command line has the byte 0x00 at 1 of 3");
  CHECK(!ramet::encode_command_line("a\nb", 10).ok());
}
