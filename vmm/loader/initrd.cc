#include "vmm/loader/initrd.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include <absl/strings/escaping.h>
#include <absl/strings/str_format.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/checked.h"
#include "vmm/loader/bytes.h"

namespace ramet {
namespace {

// The new ASCII format (Documentation/driver-api/early-userspace/buffer-format.rst): a magic and 13
// fields of eight hexadecimal digits; name and data are padded to four bytes each.
constexpr std::string_view kNewcMagic = "070701";
constexpr std::string_view kCrcMagic = "070702";
constexpr std::string_view kTrailer = "TRAILER!!!";
constexpr size_t kFieldDigits = 8;
constexpr size_t kFileSizeField = 6;
constexpr size_t kNameSizeField = 11;
constexpr size_t kCpioHeaderSize = 6 + 13 * kFieldDigits;
constexpr size_t kMaxNameSize = 4096;  // PATH_MAX, beyond which Linux skips a member

// First two bytes of what Linux unpacks (lib/decompress.c): gzip (two), bzip2, LZMA, XZ, LZO, LZ4,
// Zstandard.
constexpr std::array<uint16_t, 8> kCompressedMagics = {0x8B1F, 0x9E1F, 0x5A42, 0x005D,
                                                       0x37FD, 0x4C89, 0x2102, 0xB528};

struct CpioMember {
  std::string_view name;
  size_t end = 0;  // offset of what follows, padding included or not at the end of the file
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {static_cast<const char*>(static_cast<const void*>(bytes.data())), bytes.size()};
}

std::string quoted(std::string_view text) {
  return absl::StrFormat("\"%s\"", absl::CHexEscape(std::string(text.substr(0, 64))));
}

bool is_cpio(std::string_view text) {
  return text.starts_with(kNewcMagic) || text.starts_with(kCrcMagic);
}

bool is_compressed(std::span<const std::byte> bytes) {
  const auto magic = read_at<uint16_t>(bytes, 0);
  return magic && std::ranges::find(kCompressedMagics, *magic) != kCompressedMagics.end();
}

// Field `index` of a header that is long enough.
std::optional<uint32_t> cpio_field(std::string_view header, size_t index) {
  uint32_t value = 0;
  for (const char c : header.substr(kNewcMagic.size() + index * kFieldDigits, kFieldDigits)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) {
      return std::nullopt;
    }
    value = value << 4 | static_cast<uint32_t>(digit);
  }
  return value;
}

Status cut_short(std::string_view what, size_t offset, uint64_t wanted, size_t there) {
  return absl::DataLossError(
      absl::StrFormat("the initrd is cut short: %s at offset %u has %u bytes, %u are there",
                      std::string(what), offset, wanted, there));
}

// The member whose header begins at `offset`, which is_cpio() has found there.
StatusOr<CpioMember> parse_member(std::string_view text, size_t offset) {
  if (text.size() - offset < kCpioHeaderSize) {
    return cut_short("the cpio header", offset, kCpioHeaderSize, text.size() - offset);
  }
  const std::string_view header = text.substr(offset, kCpioHeaderSize);
  const auto file_size = cpio_field(header, kFileSizeField);
  const auto name_size = cpio_field(header, kNameSizeField);
  if (!file_size || !name_size || *name_size == 0 || *name_size > kMaxNameSize) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the initrd's cpio header at offset %u is malformed: %s", offset, quoted(header)));
  }
  const size_t name_offset = offset + kCpioHeaderSize;
  if (text.size() - name_offset < *name_size) {
    return cut_short("the name of the cpio member", name_offset, *name_size,
                     text.size() - name_offset);
  }
  CpioMember member;
  member.name = text.substr(name_offset, *name_size - 1);
  // No overflow: both sizes are below 2^32 and offsets below the file's size.
  const uint64_t data_offset = (uint64_t{name_offset} + *name_size + 3) & ~uint64_t{3};
  const size_t there = text.size() - std::min<uint64_t>(data_offset, text.size());
  if (there < *file_size) {
    return cut_short("the cpio member " + quoted(member.name), offset, *file_size, there);
  }
  const uint64_t end = (data_offset + *file_size + 3) & ~uint64_t{3};
  member.end = static_cast<size_t>(std::min<uint64_t>(end, text.size()));
  return member;
}

// Walks one archive from `offset` on; the offset after its trailer.
StatusOr<size_t> walk_archive(std::string_view text, size_t offset) {
  while (is_cpio(text.substr(offset))) {
    RAMET_ASSIGN_OR_RETURN(const CpioMember member, parse_member(text, offset));
    offset = member.end;
    if (member.name == kTrailer) {
      return offset;
    }
  }
  if (!kNewcMagic.starts_with(text.substr(offset))) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the initrd has no cpio header at offset %u but %s", offset,
                        quoted(text.substr(offset, kNewcMagic.size()))));
  }
  return absl::DataLossError(absl::StrFormat(
      "the initrd is cut short: its %u bytes end before the cpio trailer", text.size()));
}

}  // namespace

Status check_initrd(std::span<const std::byte> file) {
  const std::string_view text = as_text(file);
  bool found = false;
  size_t offset = 0;
  // Archives may follow one another, with zeros between, and the last may be compressed
  // (buffer-format.rst).
  while (true) {
    offset = std::min(text.find_first_not_of('\0', offset), text.size());
    if (offset == text.size()) {
      break;
    }
    if (is_compressed(file.subspan(offset))) {
      return {};
    }
    if (!is_cpio(text.substr(offset))) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "not an initrd: neither a cpio archive nor a known compression at offset %u of %u: %s",
          offset, text.size(), quoted(text.substr(offset, 8))));
    }
    RAMET_ASSIGN_OR_RETURN(offset, walk_archive(text, offset));
    found = true;
  }
  if (!found) {
    return absl::InvalidArgumentError(
        absl::StrFormat("not an initrd: its %u bytes hold no archive", text.size()));
  }
  return {};
}

StatusOr<uint64_t> place_initrd(uint64_t size, uint64_t floor, uint64_t ceiling) {
  if (size == 0) {
    return absl::InvalidArgumentError("initrd of 0 bytes");
  }
  const auto lowest = checked_align_up<uint64_t>(floor, x86::kPageSize);
  if (!lowest || *lowest > ceiling || size > ceiling - *lowest) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "initrd of %u bytes does not fit: there are %u bytes between the kernel's "
        "end at 0x%x and 0x%x",
        size, lowest && *lowest <= ceiling ? ceiling - *lowest : 0, floor, ceiling));
  }
  return (ceiling - size) & ~(x86::kPageSize - 1);
}

}  // namespace ramet
