// Synthetic kernels and initrds for the loader's tests: well-formed by default, with one field
// changed by each test.
//
// Thread rule: plain functions. Invariant: what the defaults make, the loader accepts.
#ifndef RAMET_TESTS_UNIT_VMM_LOADER_IMAGES_H_
#define RAMET_TESTS_UNIT_VMM_LOADER_IMAGES_H_

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace ramet::testing {

using Bytes = std::vector<std::byte>;

template <typename T>
void put(Bytes& bytes, size_t offset, T value) {
  if (bytes.size() < offset + sizeof(T)) {
    bytes.resize(offset + sizeof(T));
  }
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

inline Bytes to_bytes(std::string_view text) {
  Bytes bytes(text.size());
  if (!text.empty()) {
    std::memcpy(bytes.data(), text.data(), text.size());
  }
  return bytes;
}

// A bzImage of one setup sector and 1 KiB of kernel, preferring 16 MiB and needing 1 MiB there.
inline Bytes make_bzimage() {
  Bytes image(1024);
  put<uint8_t>(image, 0x1F1, 1);
  put<uint32_t>(image, 0x1F4, 1024 / 16);
  put<uint16_t>(image, 0x1FE, 0xAA55);
  put<uint16_t>(image, 0x200, 0x6AEB);
  put<uint32_t>(image, 0x202, 0x53726448);
  put<uint16_t>(image, 0x206, 0x020F);
  put<uint32_t>(image, 0x22C, 0x7FFF'FFFF);
  put<uint32_t>(image, 0x230, 0x20'0000);
  put<uint8_t>(image, 0x234, 1);
  put<uint16_t>(image, 0x236, 1);
  put<uint32_t>(image, 0x238, 2047);
  put<uint64_t>(image, 0x258, 0x100'0000);
  put<uint32_t>(image, 0x260, 0x10'0000);
  image.resize(1024 + 1024, std::byte{0xF4});
  return image;
}

struct SegmentSpec {
  uint64_t address = 0x100'0000;
  uint64_t file_size = 64;
  uint64_t memory_size = 4096;
  uint32_t flags = PF_R | PF_X;
};

// An ELF executable whose entry is its first segment's address.
inline Bytes make_elf(const std::vector<SegmentSpec>& segments = {SegmentSpec{}}) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_entry = segments.empty() ? 0 : segments.front().address;
  header.e_phoff = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<uint16_t>(segments.size());
  Bytes image;
  put(image, 0, header);
  uint64_t data = sizeof(header) + segments.size() * sizeof(Elf64_Phdr);
  for (size_t i = 0; i < segments.size(); ++i) {
    Elf64_Phdr program{};
    program.p_type = PT_LOAD;
    program.p_flags = segments[i].flags;
    program.p_offset = data;
    program.p_paddr = segments[i].address;
    program.p_filesz = segments[i].file_size;
    program.p_memsz = segments[i].memory_size;
    put(image, sizeof(header) + i * sizeof(program), program);
    data += segments[i].file_size;
  }
  image.resize(data, std::byte{0xF4});
  return image;
}

// One newc member, padded.
inline std::string make_cpio_member(std::string_view name, std::string_view data) {
  const auto hex = [](size_t value) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text(8, '0');
    for (size_t i = 0; i < 8; ++i) {
      text[7 - i] = kDigits[value >> (4 * i) & 0xF];
    }
    return text;
  };
  std::string member = "070701";
  for (size_t field = 0; field < 13; ++field) {
    member += hex(field == 6 ? data.size() : field == 11 ? name.size() + 1 : 0);
  }
  member += name;
  member += '\0';
  member.resize((member.size() + 3) / 4 * 4);
  member += data;
  member.resize((member.size() + 3) / 4 * 4);
  return member;
}

inline std::string make_cpio() {
  return make_cpio_member("init", "#!/bin/sh\n") + make_cpio_member("TRAILER!!!", "");
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_VMM_LOADER_IMAGES_H_
