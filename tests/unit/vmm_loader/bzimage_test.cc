#include "vmm/loader/bzimage.h"

#include <string>

#include <catch2/catch.hpp>

#include "tests/unit/vmm_loader/images.h"

using namespace ramet::testing;

namespace {

// The Status message of parsing `image`, with the code checked.
std::string refused(const Bytes& image, absl::StatusCode code) {
  const auto parsed = ramet::parse_bzimage(image);
  CHECK(parsed.status().code() == code);
  return std::string(parsed.status().message());
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kDataLoss = absl::StatusCode::kDataLoss;

}  // namespace

TEST_CASE("a bzImage's fields and ranges are read") {
  const Bytes file = make_bzimage();
  const auto image = ramet::parse_bzimage(file);
  REQUIRE(image.ok());
  CHECK(image->version == 0x020F);
  CHECK(image->setup_header.data() == file.data() + 0x1F1);
  CHECK(image->setup_header.size() == 0x202 + 0x6A - 0x1F1);
  CHECK(image->payload.data() == file.data() + 1024);
  CHECK(image->payload.size() == 1024);
  CHECK(image->pref_address == 0x100'0000);
  CHECK(image->init_size == 0x10'0000);
  CHECK(image->kernel_alignment == 0x20'0000);
  CHECK(image->initrd_addr_max == 0x7FFF'FFFF);
  CHECK(image->cmdline_size == 2047);
  CHECK(image->relocatable);
}

TEST_CASE("zero setup sectors stand for four") {
  Bytes file = make_bzimage();
  put<uint8_t>(file, 0x1F1, 0);
  file.resize(5 * 512 + 1024);
  const auto image = ramet::parse_bzimage(file);
  REQUIRE(image.ok());
  CHECK(image->payload.data() == file.data() + 5 * 512);
}

TEST_CASE("bytes after the kernel, such as a signature, are not loaded") {
  Bytes file = make_bzimage();
  file.resize(file.size() + 777);
  const auto image = ramet::parse_bzimage(file);
  REQUIRE(image.ok());
  CHECK(image->payload.size() == 1024);
}

TEST_CASE("a bzImage cut anywhere is refused, never read past its end") {
  const Bytes whole = make_bzimage();
  for (size_t size = 0; size < whole.size(); ++size) {
    const Bytes file(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    const auto image = ramet::parse_bzimage(file);
    REQUIRE(!image.ok());
    REQUIRE(image.status().code() == (size < 0x206 ? kInvalid : kDataLoss));
  }
}

TEST_CASE("a truncated bzImage is told with what its header states and what the file has") {
  Bytes file = make_bzimage();
  file.resize(1500);
  CHECK(refused(file, kDataLoss) ==
        "the bzImage is cut short: its header states 1024 bytes of setup and 1024 of kernel, the "
        "file has 1500 bytes");
}

TEST_CASE("a syssize near 4 GiB of paragraphs is told, not multiplied over") {
  Bytes file = make_bzimage();
  put<uint32_t>(file, 0x1F4, 0xFFFF'FFFF);
  CHECK(refused(file, kDataLoss).find("68719476720 of kernel") != std::string::npos);
}

TEST_CASE("a boot protocol before 2.12 is refused with the version found") {
  Bytes file = make_bzimage();
  put<uint16_t>(file, 0x206, 0x020B);
  CHECK(refused(file, kInvalid).find("boot protocol 2.11; 2.12 or later") != std::string::npos);
}

TEST_CASE("a 32-bit bzImage is refused as such") {
  Bytes file = make_bzimage();
  put<uint16_t>(file, 0x236, 0);
  CHECK(refused(file, kInvalid).find("32-bit kernel") != std::string::npos);
}

TEST_CASE("a bzImage without its boot flag is refused") {
  Bytes file = make_bzimage();
  put<uint16_t>(file, 0x1FE, 0x1234);
  CHECK(refused(file, kInvalid).find("0x1234") != std::string::npos);
}

TEST_CASE("a setup header that ends before init_size is refused") {
  Bytes file = make_bzimage();
  put<uint8_t>(file, 0x201, 0x20);
  CHECK(refused(file, kInvalid).find("ends at byte 546") != std::string::npos);
}

TEST_CASE("an alignment that is zero or no power of two is refused") {
  for (const uint32_t alignment : {0u, 3u, 0x20'0001u}) {
    Bytes file = make_bzimage();
    put<uint32_t>(file, 0x230, alignment);
    CHECK(refused(file, kInvalid).find("kernel_alignment") != std::string::npos);
  }
}

TEST_CASE("an init_size or cmdline_size of zero is refused") {
  Bytes file = make_bzimage();
  put<uint32_t>(file, 0x260, 0);
  CHECK(refused(file, kInvalid).find("init_size") != std::string::npos);
  file = make_bzimage();
  put<uint32_t>(file, 0x238, 0);
  CHECK(refused(file, kInvalid).find("cmdline_size") != std::string::npos);
}

TEST_CASE("a kernel too short to hold its 64-bit entry is refused") {
  Bytes file = make_bzimage();
  put<uint32_t>(file, 0x1F4, 0x200 / 16);
  CHECK(refused(file, kInvalid).find("has 512 bytes") != std::string::npos);
}
