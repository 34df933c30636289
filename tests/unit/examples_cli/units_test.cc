#include "examples/cli/units.h"

#include <catch2/catch.hpp>

using std::chrono::milliseconds;

namespace {

std::string why_no_size(const std::string& text) {
  const auto size = cli::parse_size(text);
  REQUIRE(size.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(size.status().message());
}

std::string why_no_duration(const std::string& text) {
  const auto duration = cli::parse_duration(text);
  REQUIRE(duration.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(duration.status().message());
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("sizes with a suffix are powers of 1024, in either case and in every spelling") {
  CHECK(*cli::parse_size("0") == 0);
  CHECK(*cli::parse_size("4096") == 4096);
  CHECK(*cli::parse_size("17b") == 17);
  CHECK(*cli::parse_size("4K") == 4096);
  CHECK(*cli::parse_size("256M") == uint64_t{256} << 20);
  CHECK(*cli::parse_size("256m") == uint64_t{256} << 20);
  CHECK(*cli::parse_size("256MB") == uint64_t{256} << 20);
  CHECK(*cli::parse_size("256MiB") == uint64_t{256} << 20);
  CHECK(*cli::parse_size("1G") == uint64_t{1} << 30);
  CHECK(*cli::parse_size("2T") == uint64_t{2} << 40);
}

TEST_CASE("the largest sizes fit exactly, and one more is an error") {
  CHECK(*cli::parse_size("18446744073709551615") == UINT64_MAX);
  CHECK(holds(why_no_size("18446744073709551616"), "64 bits"));
  CHECK(*cli::parse_size("16777215T") == uint64_t{16777215} << 40);
  CHECK(holds(why_no_size("16777216T"), "64 bits"));
}

TEST_CASE("what is no size is an error that says what was given and what would be right") {
  CHECK(holds(why_no_size(""), "empty"));
  CHECK(holds(why_no_size("M"), "digit"));
  CHECK(holds(why_no_size("-5M"), "digit"));
  CHECK(holds(why_no_size(" 5M"), "digit"));
  CHECK(holds(why_no_size("1.5G"), "fraction"));
  CHECK(holds(why_no_size("5X"), "\"X\" is no suffix"));
  CHECK(holds(why_no_size("5Mx"), "\"Mx\" is no suffix"));
  CHECK(holds(why_no_size("5 M"), "no suffix"));
  CHECK(holds(why_no_size("5X"), "\"5X\" is no size"));
  CHECK(holds(why_no_size("5X"), "as in 256M"));
}

TEST_CASE("durations have a unit or are seconds") {
  CHECK(*cli::parse_duration("0") == milliseconds(0));
  CHECK(*cli::parse_duration("30") == milliseconds(30'000));
  CHECK(*cli::parse_duration("1.5") == milliseconds(1'500));
  CHECK(*cli::parse_duration("30s") == milliseconds(30'000));
  CHECK(*cli::parse_duration("500ms") == milliseconds(500));
  CHECK(*cli::parse_duration("2m") == milliseconds(120'000));
  CHECK(*cli::parse_duration("1m30s") == milliseconds(90'000));
  CHECK(*cli::parse_duration("1h") == milliseconds(3'600'000));
}

TEST_CASE("what is no duration is an error that says what was given and what would be right") {
  CHECK(holds(why_no_duration(""), "empty"));
  CHECK(holds(why_no_duration("-1s"), "digit"));
  CHECK(holds(why_no_duration("inf"), "digit"));
  CHECK(holds(why_no_duration("5 s"), "another form"));
  CHECK(holds(why_no_duration("5d"), "another form"));
  CHECK(holds(why_no_duration("1us"), "millisecond"));
  CHECK(holds(why_no_duration("10000h"), "year"));
  CHECK(holds(why_no_duration("5d"), "as in 500ms, 30s"));
}

TEST_CASE("sizes are printed with three digits and a binary unit") {
  CHECK(cli::format_size(0) == "0 bytes");
  CHECK(cli::format_size(1) == "1 byte");
  CHECK(cli::format_size(1023) == "1023 bytes");
  CHECK(cli::format_size(1024) == "1 KiB");
  CHECK(cli::format_size(1536) == "1.5 KiB");
  CHECK(cli::format_size(uint64_t{256} << 20) == "256 MiB");
  CHECK(cli::format_size((uint64_t{1} << 30) - 1) == "1 GiB");
  CHECK(cli::format_size(uint64_t{5} << 50) == "5120 TiB");
}

TEST_CASE("durations are printed with three digits and the unit that suits") {
  CHECK(cli::format_duration(std::chrono::microseconds(0)) == "0 us");
  CHECK(cli::format_duration(std::chrono::microseconds(834)) == "834 us");
  CHECK(cli::format_duration(std::chrono::microseconds(12'345)) == "12.3 ms");
  CHECK(cli::format_duration(milliseconds(4'560)) == "4.56 s");
  CHECK(cli::format_duration(std::chrono::seconds(100)) == "100 s");
  CHECK(cli::format_duration(std::chrono::nanoseconds(999'600)) == "1 ms");
}
