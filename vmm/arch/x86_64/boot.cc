#include "vmm/arch/x86_64/boot.h"

#include <asm/bootparam.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <absl/strings/str_format.h>

namespace ramet::x86 {
namespace {

static_assert(sizeof(boot_params) == kZeroPageSize);

// Selectors that the 64-bit boot protocol names: __BOOT_CS and __BOOT_DS.
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;
constexpr uint16_t kTaskSelector = 0x20;
constexpr uint16_t kGdtEntries = 6;  // the task descriptor takes two

// Intel manual, volume 3: 2.5 (control registers), 2.2.1 (EFER).
constexpr uint64_t kCr0Pe = 1 << 0;
constexpr uint64_t kCr0Et = 1 << 4;  // always 1 in hardware
constexpr uint64_t kCr0Ne = 1 << 5;
constexpr uint64_t kCr0Pg = uint64_t{1} << 31;
constexpr uint64_t kCr4Pae = 1 << 5;
constexpr uint64_t kEferLme = 1 << 8;
constexpr uint64_t kEferLma = 1 << 10;
constexpr uint64_t kRflagsReserved = 1 << 1;

constexpr uint8_t kTypeCode = 0xB;  // execute, read, accessed
constexpr uint8_t kTypeData = 0x3;  // read, write, accessed
constexpr uint8_t kTypeTaskBusy = 0xB;

SegmentState flat_segment(uint16_t selector, uint8_t type, bool code) {
  SegmentState segment;
  segment.limit = 0xFFFF'FFFF;
  segment.selector = selector;
  segment.type = type;
  segment.present = true;
  segment.code_or_data = true;
  segment.long_mode = code;
  segment.default_big = !code;
  segment.granular = true;
  return segment;
}

SegmentState task_segment() {
  SegmentState segment;
  segment.limit = 0x67;  // the size of a 64-bit TSS less one
  segment.selector = kTaskSelector;
  segment.type = kTypeTaskBusy;
  segment.present = true;
  return segment;
}

// Intel manual, volume 3, figure 3-8. Bases here are zero.
uint64_t descriptor(const SegmentState& segment) {
  const uint64_t limit = segment.granular ? segment.limit >> 12 : segment.limit;
  return (limit & 0xFFFF) | (uint64_t{segment.type} << 40) |
         (uint64_t{segment.code_or_data} << 44) | (uint64_t{segment.dpl} << 45) |
         (uint64_t{segment.present} << 47) | ((limit >> 16 & 0xF) << 48) |
         (uint64_t{segment.long_mode} << 53) | (uint64_t{segment.default_big} << 54) |
         (uint64_t{segment.granular} << 55);
}

std::vector<std::byte> to_bytes(std::span<const uint64_t> words) {
  const auto bytes = std::as_bytes(words);
  return {bytes.begin(), bytes.end()};
}

// The header that an ELF kernel's file does not carry: what startup_64 and setup_arch() read.
setup_header synthesised_header() {
  setup_header header{};
  header.boot_flag = 0xAA55;
  header.header = 0x53726448;  // "HdrS"
  header.version = 0x020F;
  header.kernel_alignment = 0x20'0000;
  header.xloadflags = XLF_KERNEL_64;
  header.cmdline_size = 2047;
  return header;
}

}  // namespace

StatusOr<RamRanges> split_ram(uint64_t memory_bytes) {
  if (memory_bytes < kMinMemoryBytes || memory_bytes > kMaxMemoryBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%u bytes of memory asked for; a machine has %u to %u", memory_bytes,
                        kMinMemoryBytes, kMaxMemoryBytes));
  }
  if (memory_bytes % kPageSize != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%u bytes of memory asked for, which is no multiple of %u", memory_bytes, kPageSize));
  }
  const uint64_t low = std::min(memory_bytes, kLowMemoryEnd);
  return RamRanges{low, memory_bytes - low};
}

StatusOr<std::vector<E820Entry>> e820_map(uint64_t memory_bytes) {
  RAMET_ASSIGN_OR_RETURN(const RamRanges ram, split_ram(memory_bytes));
  std::vector<E820Entry> map = {
      {0, kConventionalMemoryEnd, E820Type::kRam},
      {kReservedStart, kReservedEnd - kReservedStart, E820Type::kReserved},
      {kKernelMinAddress, ram.low_bytes - kKernelMinAddress, E820Type::kRam},
  };
  if (ram.high_bytes > 0) {
    map.push_back({kHighMemoryStart, ram.high_bytes, E820Type::kRam});
  }
  return map;
}

StatusOr<std::vector<std::byte>> build_zero_page(const ZeroPageConfig& config) {
  RAMET_ASSIGN_OR_RETURN(const std::vector<E820Entry> map, e820_map(config.memory_bytes));
  boot_params page{};
  if (config.setup_header.empty()) {
    page.hdr = synthesised_header();
  } else {
    std::memcpy(&page.hdr, config.setup_header.data(),
                std::min(config.setup_header.size(), sizeof(page.hdr)));
  }
  page.hdr.type_of_loader = 0xFF;  // no assigned number
  page.hdr.ext_loader_type = 0;
  page.hdr.ext_loader_ver = 0;
  page.hdr.loadflags |= LOADED_HIGH;
  page.hdr.loadflags &= static_cast<uint8_t>(~CAN_USE_HEAP);  // the real-mode stub never runs
  page.hdr.vid_mode = 0xFFFF;                                 // "normal"
  page.hdr.code32_start = static_cast<uint32_t>(config.kernel_address);
  page.hdr.cmd_line_ptr = static_cast<uint32_t>(config.command_line_address);
  page.ext_cmd_line_ptr = static_cast<uint32_t>(config.command_line_address >> 32);
  page.hdr.ramdisk_image = static_cast<uint32_t>(config.initrd_address);
  page.ext_ramdisk_image = static_cast<uint32_t>(config.initrd_address >> 32);
  page.hdr.ramdisk_size = static_cast<uint32_t>(config.initrd_size);
  page.ext_ramdisk_size = static_cast<uint32_t>(config.initrd_size >> 32);
  page.hdr.setup_data = config.setup_data_address;
  page.acpi_rsdp_addr = config.rsdp_address;
  page.e820_entries = static_cast<uint8_t>(map.size());
  for (size_t i = 0; i < map.size(); ++i) {
    page.e820_table[i].addr = map[i].address;
    page.e820_table[i].size = map[i].size;
    page.e820_table[i].type = static_cast<uint32_t>(map[i].type);
  }
  const auto bytes = std::as_bytes(std::span(&page, 1));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

StatusOr<std::vector<std::byte>> build_rng_seed_node(std::span<const std::byte> seed) {
  constexpr size_t kRoom = kSetupDataMaxSize - sizeof(setup_data);
  if (seed.empty() || seed.size() > kRoom) {
    return absl::InvalidArgumentError(
        absl::StrFormat("boot seed of %u bytes given; it has 1 to %u", seed.size(), kRoom));
  }
  setup_data node{};
  node.type = SETUP_RNG_SEED;
  node.len = static_cast<uint32_t>(seed.size());
  std::vector<std::byte> bytes(sizeof(node) + seed.size());
  std::memcpy(bytes.data(), &node, sizeof(node));
  std::memcpy(bytes.data() + sizeof(node), seed.data(), seed.size());
  return bytes;
}

std::vector<std::byte> build_boot_gdt() {
  const std::array<uint64_t, kGdtEntries> table = {
      0,
      0,
      descriptor(flat_segment(kCodeSelector, kTypeCode, true)),
      descriptor(flat_segment(kDataSelector, kTypeData, false)),
      descriptor(task_segment()),
      0,  // the task descriptor's base, bits 32 to 63
  };
  return to_bytes(table);
}

std::vector<std::byte> build_boot_page_tables() {
  constexpr uint64_t kPresentWritable = 0b11;
  constexpr uint64_t kLargePage = 1 << 7;
  constexpr uint64_t kLargePageSize = 0x20'0000;
  constexpr size_t kEntries = 512;
  constexpr size_t kDirectories = 4;  // a GiB each
  std::vector<uint64_t> tables((2 + kDirectories) * kEntries);
  tables[0] = (kBootPageTablesAddress + kPageSize) | kPresentWritable;
  for (size_t i = 0; i < kDirectories; ++i) {
    tables[kEntries + i] = (kBootPageTablesAddress + (2 + i) * kPageSize) | kPresentWritable;
  }
  for (size_t i = 0; i < kDirectories * kEntries; ++i) {
    tables[2 * kEntries + i] = i * kLargePageSize | kPresentWritable | kLargePage;
  }
  return to_bytes(tables);
}

EntryState build_entry_state(uint64_t entry_address) {
  EntryState state;
  state.rip = entry_address;
  state.rsi = kZeroPageAddress;
  state.rflags = kRflagsReserved;
  state.cr0 = kCr0Pe | kCr0Et | kCr0Ne | kCr0Pg;
  state.cr3 = kBootPageTablesAddress;
  state.cr4 = kCr4Pae;
  state.efer = kEferLme | kEferLma;
  state.cs = flat_segment(kCodeSelector, kTypeCode, true);
  state.data = flat_segment(kDataSelector, kTypeData, false);
  state.tr = task_segment();
  state.gdt_base = kBootGdtAddress;
  state.gdt_limit = kGdtEntries * sizeof(uint64_t) - 1;
  return state;
}

}  // namespace ramet::x86
