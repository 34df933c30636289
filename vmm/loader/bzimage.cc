#include "vmm/loader/bzimage.h"

#include <bit>

#include <absl/strings/str_format.h>

#include "vmm/loader/bytes.h"

namespace ramet {
namespace {

// Offsets into the file of the fields of the setup header (boot.rst, "The real-mode kernel
// header").
constexpr size_t kSetupSects = 0x1F1;
constexpr size_t kSysSize = 0x1F4;
constexpr size_t kBootFlag = 0x1FE;
constexpr size_t kJumpDistance = 0x201;
constexpr size_t kHeader = 0x202;
constexpr size_t kVersion = 0x206;
constexpr size_t kInitrdAddrMax = 0x22C;
constexpr size_t kKernelAlignment = 0x230;
constexpr size_t kRelocatable = 0x234;
constexpr size_t kXloadflags = 0x236;
constexpr size_t kCmdlineSize = 0x238;
constexpr size_t kPrefAddress = 0x258;
constexpr size_t kInitSize = 0x260;
constexpr size_t kHeaderEndMin = kInitSize + 4;  // what protocol 2.12 has at least

constexpr uint16_t kBootFlagValue = 0xAA55;
constexpr uint32_t kHeaderValue = 0x53726448;  // "HdrS"
constexpr uint16_t kMinVersion = 0x020C;
constexpr uint16_t kXlfKernel64 = 1 << 0;
constexpr size_t kSectorSize = 512;
constexpr size_t kDefaultSetupSects = 4;  // what 0 stands for
constexpr size_t kParagraphSize = 16;     // the unit of syssize

// For offsets that the caller has checked to be inside.
template <typename T>
T field(std::span<const std::byte> file, size_t offset) {
  return read_at<T>(file, offset).value_or(T{});
}

Status check_protocol(std::span<const std::byte> file) {
  if (!looks_like_bzimage(file)) {
    return absl::InvalidArgumentError("no \"HdrS\" at 0x202");
  }
  if (file.size() < kHeaderEndMin) {
    return absl::DataLossError(
        absl::StrFormat("the bzImage is cut short: its setup header ends at byte %u or later, the "
                        "file has %u bytes",
                        kHeaderEndMin, file.size()));
  }
  if (const auto flag = field<uint16_t>(file, kBootFlag); flag != kBootFlagValue) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the bzImage's boot flag at 0x1FE is 0x%04x, not 0xaa55", flag));
  }
  const auto version = field<uint16_t>(file, kVersion);
  if (version < kMinVersion) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the bzImage speaks boot protocol %u.%02u; 2.12 or later is needed (Linux "
                        "3.8 or later)",
                        version >> 8, version & 0xFF));
  }
  if ((field<uint16_t>(file, kXloadflags) & kXlfKernel64) == 0) {
    return absl::InvalidArgumentError("the bzImage has no 64-bit entry: it is a 32-bit kernel");
  }
  return {};
}

Status check_fields(const BzImage& image) {
  if (!std::has_single_bit(image.kernel_alignment)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the bzImage's kernel_alignment 0x%x is no power of two", image.kernel_alignment));
  }
  if (image.init_size == 0) {
    return absl::InvalidArgumentError("the bzImage's init_size is 0");
  }
  if (image.cmdline_size == 0) {
    return absl::InvalidArgumentError("the bzImage's cmdline_size is 0");
  }
  if (image.payload.size() <= kBzImageEntryOffset) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the bzImage's protected-mode kernel has %u bytes, its entry is at byte %u",
                        image.payload.size(), kBzImageEntryOffset));
  }
  return {};
}

}  // namespace

bool looks_like_bzimage(std::span<const std::byte> file) {
  return read_at<uint32_t>(file, kHeader) == kHeaderValue;
}

StatusOr<BzImage> parse_bzimage(std::span<const std::byte> file) {
  RAMET_RETURN_IF_ERROR(check_protocol(file));
  // The header ends where the jump over it lands (boot.rst, "Details of header fields").
  const size_t header_end = kHeader + field<uint8_t>(file, kJumpDistance);
  if (header_end < kHeaderEndMin) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the bzImage's setup header ends at byte %u, before its init_size at %u",
                        header_end, kInitSize));
  }
  const size_t sectors = field<uint8_t>(file, kSetupSects);
  const size_t payload_offset = ((sectors == 0 ? kDefaultSetupSects : sectors) + 1) * kSectorSize;
  const uint64_t payload_size = uint64_t{field<uint32_t>(file, kSysSize)} * kParagraphSize;
  if (header_end > file.size() || payload_offset > file.size() ||
      payload_size > file.size() - payload_offset) {
    return absl::DataLossError(absl::StrFormat(
        "the bzImage is cut short: its header states %u bytes of setup and %u of kernel, the file "
        "has %u bytes",
        payload_offset, payload_size, file.size()));
  }
  BzImage image;
  image.version = field<uint16_t>(file, kVersion);
  image.setup_header = file.subspan(kSetupSects, header_end - kSetupSects);
  image.payload = file.subspan(payload_offset, payload_size);
  image.pref_address = field<uint64_t>(file, kPrefAddress);
  image.init_size = field<uint32_t>(file, kInitSize);
  image.kernel_alignment = field<uint32_t>(file, kKernelAlignment);
  image.initrd_addr_max = field<uint32_t>(file, kInitrdAddrMax);
  image.cmdline_size = field<uint32_t>(file, kCmdlineSize);
  image.relocatable = field<uint8_t>(file, kRelocatable) != 0;
  RAMET_RETURN_IF_ERROR(check_fields(image));
  return image;
}

}  // namespace ramet
