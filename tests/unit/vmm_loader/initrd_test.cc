#include "vmm/loader/initrd.h"

#include <string>
#include <string_view>

#include <catch2/catch.hpp>

#include "tests/unit/vmm_loader/images.h"

using namespace ramet::testing;

namespace {

ramet::Status check(std::string_view content) { return ramet::check_initrd(to_bytes(content)); }

std::string message(const ramet::Status& status) { return std::string(status.message()); }

}  // namespace

TEST_CASE("a whole cpio archive is an initrd, alone or followed by others") {
  CHECK(check(make_cpio()).ok());
  CHECK(check(make_cpio() + std::string(512, '\0') + make_cpio()).ok());
  CHECK(check(make_cpio() + "\x1F\x8B and so on").ok());
}

TEST_CASE("every compression that Linux unpacks is recognised by its magic") {
  using std::string_view_literals::operator""sv;
  for (const std::string_view magic : {"\x1F\x8B"sv, "\x1F\x9E"sv, "BZh"sv, "\x5D\0\0"sv,
                                       "\xFD"
                                       "7zXZ"sv,
                                       "\x89LZO"sv, "\x02\x21\x4C\x18"sv, "\x28\xB5\x2F\xFD"sv}) {
    CHECK(check(magic).ok());
  }
}

TEST_CASE("what is neither is told with its first bytes") {
  const ramet::Status status = check("hello, world");
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(message(status) ==
        "not an initrd: neither a cpio archive nor a known compression at offset 0 of 12: "
        "\"hello, w\"");
  CHECK(check("").code() == absl::StatusCode::kInvalidArgument);
  CHECK(check(std::string(4096, '\0')).code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a cpio archive cut anywhere before its trailer's end is refused") {
  const std::string whole = make_cpio();
  // The trailer's padding may be missing.
  const size_t needed = whole.find("TRAILER!!!") + 11;
  for (size_t size = 0; size < needed; ++size) {
    const ramet::Status status = check(whole.substr(0, size));
    REQUIRE(!status.ok());
    REQUIRE(status.code() ==
            (size < 6 ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kDataLoss));
  }
  CHECK(check(whole.substr(0, needed)).ok());
}

TEST_CASE("a cpio archive cut in a member's data names the member and both sizes") {
  const std::string member = make_cpio_member("etc/passwd", std::string(1000, 'x'));
  CHECK(message(check(member.substr(0, 500))) ==
        "the initrd is cut short: the cpio member \"etc/passwd\" at offset 0 has 1000 bytes, 376 "
        "are there");
}

TEST_CASE("a cpio header that is no hexadecimal or has no name is refused") {
  std::string bad = make_cpio();
  bad[6 + 6 * 8] = 'g';
  CHECK(check(bad).code() == absl::StatusCode::kInvalidArgument);
  bad = make_cpio();
  bad.replace(6 + 11 * 8, 8, "00000000");
  CHECK(check(bad).code() == absl::StatusCode::kInvalidArgument);
  bad.replace(6 + 11 * 8, 8, "00100000");
  CHECK(message(check(bad)).find("malformed") != std::string::npos);
}

TEST_CASE("garbage between cpio members is refused with its offset") {
  const std::string first = make_cpio_member("a", "");
  CHECK(message(check(first + "garbage!")) ==
        "the initrd has no cpio header at offset 112 but \"garbag\"");
}

TEST_CASE("an initrd goes to the highest page below the ceiling") {
  CHECK(*ramet::place_initrd(1, 0x10'0000, 0x100'0000) == 0xFF'F000);
  CHECK(*ramet::place_initrd(4096, 0x10'0000, 0x100'0000) == 0xFF'F000);
  CHECK(*ramet::place_initrd(4097, 0x10'0000, 0x100'0000) == 0xFF'E000);
  CHECK(*ramet::place_initrd(0xF0'0000, 0x10'0000, 0x100'0000) == 0x10'0000);
}

TEST_CASE("an initrd that does not fit is told with its size and the room there is") {
  const auto address = ramet::place_initrd(0xF0'0001, 0x10'0000, 0x100'0000);
  CHECK(address.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(message(address.status()) ==
        "initrd of 15728641 bytes does not fit: there are 15728640 bytes between the kernel's end "
        "at 0x100000 and 0x1000000");
  CHECK(!ramet::place_initrd(~uint64_t{0}, 0, 0x100'0000).ok());
  CHECK(!ramet::place_initrd(1, 0x100'0001, 0x100'0000).ok());
  CHECK(!ramet::place_initrd(1, ~uint64_t{0}, ~uint64_t{0}).ok());
  CHECK(!ramet::place_initrd(0, 0, 0x100'0000).ok());
}
