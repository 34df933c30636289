#include "vmm/loader/elf.h"

#include <string>

#include <catch2/catch.hpp>

#include "tests/unit/vmm_loader/images.h"

using namespace ramet::testing;

namespace {

constexpr size_t kFirstProgram = sizeof(Elf64_Ehdr);

std::string refused(const Bytes& image, absl::StatusCode code) {
  const auto parsed = ramet::parse_elf(image);
  CHECK(parsed.status().code() == code);
  return std::string(parsed.status().message());
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kDataLoss = absl::StatusCode::kDataLoss;

}  // namespace

TEST_CASE("an ELF kernel's segments come out sorted, with bytes and memory sizes") {
  Bytes file = make_elf({{0x120'0000, 16, 8192, PF_R | PF_X}, {0x100'0000, 64, 64, PF_R}});
  const auto image = ramet::parse_elf(file);
  REQUIRE(image.ok());
  CHECK(image->entry == 0x120'0000);
  REQUIRE(image->segments.size() == 2);
  CHECK(image->segments[0].address == 0x100'0000);
  CHECK(image->segments[0].bytes.size() == 64);
  CHECK(image->segments[1].address == 0x120'0000);
  CHECK(image->segments[1].memory_size == 8192);
  CHECK(image->segments[1].bytes.data() == file.data() + kFirstProgram + 2 * sizeof(Elf64_Phdr));
}

TEST_CASE("segments that are not loaded or take no memory are left out") {
  Bytes file = make_elf({{}, {0x200'0000, 8, 8, PF_R}, {0x100'0000, 0, 0, PF_R}});
  put<uint32_t>(file, kFirstProgram + sizeof(Elf64_Phdr), PT_NOTE);
  const auto image = ramet::parse_elf(file);
  REQUIRE(image.ok());
  CHECK(image->segments.size() == 1);
}

TEST_CASE("an ELF file cut anywhere is refused, never read past its end") {
  const Bytes whole = make_elf();
  for (size_t size = 0; size < whole.size(); ++size) {
    const Bytes file(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    REQUIRE(!ramet::parse_elf(file).ok());
  }
}

TEST_CASE("an ELF file of another machine, class or type is refused with what it is") {
  Bytes file = make_elf();
  put<uint16_t>(file, offsetof(Elf64_Ehdr, e_machine), EM_386);
  CHECK(refused(file, kInvalid).find("machine 3") != std::string::npos);
  file = make_elf();
  put<uint8_t>(file, EI_CLASS, ELFCLASS32);
  CHECK(refused(file, kInvalid).find("class 1") != std::string::npos);
  file = make_elf();
  put<uint16_t>(file, offsetof(Elf64_Ehdr, e_type), ET_REL);
  CHECK(refused(file, kInvalid).find("type 1") != std::string::npos);
}

TEST_CASE("program headers of another size, none, or too many are refused") {
  Bytes file = make_elf();
  put<uint16_t>(file, offsetof(Elf64_Ehdr, e_phentsize), 32);
  CHECK(refused(file, kInvalid).find("of 32 bytes") != std::string::npos);
  file = make_elf();
  put<uint16_t>(file, offsetof(Elf64_Ehdr, e_phnum), 0);
  CHECK(refused(file, kInvalid).find("0 program headers") != std::string::npos);
  put<uint16_t>(file, offsetof(Elf64_Ehdr, e_phnum), 65);
  CHECK(refused(file, kInvalid).find("65 program headers") != std::string::npos);
}

TEST_CASE("program headers beyond the file or past 2^64 are refused") {
  for (const uint64_t offset : {uint64_t{100'000}, ~uint64_t{0}, ~uint64_t{0} - 56}) {
    Bytes file = make_elf({{}, {0x200'0000, 8, 8, PF_R}});
    put<uint64_t>(file, offsetof(Elf64_Ehdr, e_phoff), offset);
    CHECK(refused(file, kDataLoss).find("program header 0 of 2") != std::string::npos);
  }
}

TEST_CASE("a segment whose bytes lie outside the file is refused") {
  for (const uint64_t offset : {uint64_t{100'000}, ~uint64_t{0}, ~uint64_t{0} - 10}) {
    Bytes file = make_elf();
    put<uint64_t>(file, kFirstProgram + offsetof(Elf64_Phdr, p_offset), offset);
    CHECK(refused(file, kDataLoss).find("cut short") != std::string::npos);
  }
}

TEST_CASE("a segment with fewer bytes in memory than in the file is refused") {
  CHECK(refused(make_elf({{0x100'0000, 64, 32, PF_X}}), kInvalid).find("only 32 in memory") !=
        std::string::npos);
}

TEST_CASE("a segment that passes 2^64 is refused") {
  CHECK(refused(make_elf({{~uint64_t{0} - 4095, 64, 8192, PF_X}}), kInvalid).find("past 2^64") !=
        std::string::npos);
}

TEST_CASE("segments that overlap in memory are refused, touching ones are not") {
  CHECK(refused(make_elf({{0x100'0000, 8, 4096, PF_X}, {0x100'0800, 8, 8, PF_R}}), kInvalid)
            .find("overlap") != std::string::npos);
  CHECK(refused(make_elf({{0x100'0000, 8, 8, PF_X}, {0x100'0000, 8, 8, PF_R}}), kInvalid)
            .find("overlap") != std::string::npos);
  CHECK(ramet::parse_elf(make_elf({{0x100'0000, 8, 4096, PF_X}, {0x100'1000, 8, 8, PF_R}})).ok());
}

TEST_CASE("an entry outside every executable segment's bytes is refused") {
  Bytes file = make_elf();
  put<uint64_t>(file, offsetof(Elf64_Ehdr, e_entry), 0x100'0000 + 64);
  CHECK(refused(file, kInvalid).find("entry 0x1000040") != std::string::npos);
  CHECK(refused(make_elf({{0x100'0000, 64, 64, PF_R}}), kInvalid).find("entry 0x1000000") !=
        std::string::npos);
}
