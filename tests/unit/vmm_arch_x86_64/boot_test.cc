#include "vmm/arch/x86_64/boot.h"

#include <asm/bootparam.h>

#include <cstring>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace x86 = ramet::x86;

namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

// A packed structure's field by value: a check must not bind a reference to it.
template <typename T>
uint64_t value(T field) {
  return field;
}

boot_params read_zero_page(const x86::ZeroPageConfig& config) {
  const auto bytes = x86::build_zero_page(config);
  REQUIRE(bytes.ok());
  REQUIRE(bytes->size() == sizeof(boot_params));
  boot_params page;
  std::memcpy(&page, bytes->data(), sizeof(page));
  return page;
}

uint64_t word(const std::vector<std::byte>& bytes, size_t index) {
  REQUIRE((index + 1) * 8 <= bytes.size());
  uint64_t value;
  std::memcpy(&value, bytes.data() + index * 8, 8);
  return value;
}

// What the boot page tables map `address` to.
uint64_t translate(const std::vector<std::byte>& tables, uint64_t address) {
  uint64_t table = x86::kBootPageTablesAddress;
  for (const unsigned shift : {39u, 30u, 21u}) {
    const uint64_t offset = table - x86::kBootPageTablesAddress;
    const uint64_t entry = word(tables, offset / 8 + (address >> shift & 0x1FF));
    REQUIRE((entry & 3) == 3);
    if ((entry & 0x80) != 0) {
      return (entry & ~uint64_t{0x1F'FFFF}) | (address & 0x1F'FFFF);
    }
    table = entry & ~uint64_t{0xFFF};
  }
  FAIL("no large page for address " << address);
  return 0;
}

}  // namespace

TEST_CASE("RAM above 3 GiB continues at 4 GiB") {
  CHECK(x86::split_ram(512 * kMiB)->low_bytes == 512 * kMiB);
  CHECK(x86::split_ram(512 * kMiB)->high_bytes == 0);
  CHECK(x86::split_ram(3 * kGiB)->high_bytes == 0);
  CHECK(x86::split_ram(3 * kGiB + 4096)->high_bytes == 4096);
  CHECK(x86::split_ram(16 * kGiB)->low_bytes == 3 * kGiB);
  CHECK(x86::split_ram(16 * kGiB)->high_bytes == 13 * kGiB);
}

TEST_CASE("memory sizes that are odd, tiny or huge are refused with the size") {
  for (const uint64_t size : {uint64_t{0}, uint64_t{4096}, 16 * kMiB + 1, uint64_t{1} << 63,
                              ~uint64_t{0}, x86::kMaxMemoryBytes + 4096}) {
    const auto ram = x86::split_ram(size);
    CHECK(ram.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(std::string(ram.status().message()).find(std::to_string(size)) == 0);
    CHECK(!x86::e820_map(size).ok());
  }
}

TEST_CASE("the e820 map is sorted, has no overlap and covers all RAM but the reserved parts") {
  for (const uint64_t size : {2 * kMiB, 128 * kMiB, 3 * kGiB, 3 * kGiB + 4096, 64 * kGiB}) {
    const auto map = x86::e820_map(size);
    REQUIRE(map.ok());
    uint64_t end = 0;
    uint64_t ram = 0;
    for (const x86::E820Entry& entry : *map) {
      CHECK(entry.address >= end);
      CHECK(entry.size > 0);
      end = entry.address + entry.size;
      ram += entry.type == x86::E820Type::kRam ? entry.size : 0;
      const bool in_gap = entry.address < x86::kHighMemoryStart && end > x86::kLowMemoryEnd;
      CHECK(!in_gap);
    }
    CHECK(ram == size - (kMiB - x86::kConventionalMemoryEnd));
  }
}

TEST_CASE("the ACPI tables and the VM generation id lie in e820-reserved memory") {
  const auto map = x86::e820_map(128 * kMiB);
  REQUIRE(map.ok());
  const x86::E820Entry& reserved = (*map)[1];
  CHECK(reserved.type == x86::E820Type::kReserved);
  CHECK(reserved.address <= x86::kAcpiTablesAddress);
  CHECK(reserved.address + reserved.size >= x86::kVmGenIdGuidAddress + x86::kVmGenIdGuidSize);
}

TEST_CASE("the zero page of an ELF kernel carries a header of our own") {
  const boot_params page = read_zero_page({.memory_bytes = 256 * kMiB,
                                           .kernel_address = 0x100'0000,
                                           .initrd_address = 0x800'0000,
                                           .initrd_size = 1234,
                                           .setup_data_address = x86::kSetupDataAddress});
  CHECK(value(page.hdr.boot_flag) == 0xAA55);
  CHECK(value(page.hdr.header) == 0x53726448);
  CHECK(value(page.hdr.version) >= 0x020C);
  CHECK(value(page.hdr.type_of_loader) == 0xFF);
  CHECK((value(page.hdr.loadflags) & LOADED_HIGH) != 0);
  CHECK(value(page.hdr.cmd_line_ptr) == x86::kCommandLineAddress);
  CHECK(value(page.hdr.ramdisk_image) == 0x800'0000);
  CHECK(value(page.hdr.ramdisk_size) == 1234);
  CHECK(value(page.hdr.setup_data) == x86::kSetupDataAddress);
  CHECK(value(page.acpi_rsdp_addr) == x86::kAcpiTablesAddress);
  CHECK(value(page.sentinel) == 0);
  REQUIRE(value(page.e820_entries) == 3);
  CHECK(value(page.e820_table[1].addr) == x86::kReservedStart);
  CHECK(value(page.e820_table[1].type) == 2);
}

TEST_CASE("the zero page keeps the kernel's setup header and drops what is longer than it") {
  std::vector<std::byte> header(200, std::byte{0xCD});
  const boot_params page =
      read_zero_page({.setup_header = header, .memory_bytes = 256 * kMiB, .kernel_address = 1});
  CHECK(value(page.hdr.version) == 0xCDCD);
  CHECK(value(page.hdr.init_size) == 0xCDCD'CDCD);
  CHECK(value(page.hdr.type_of_loader) == 0xFF);
  CHECK((value(page.hdr.loadflags) & CAN_USE_HEAP) == 0);
  CHECK(value(page.hdr.ramdisk_size) == 0);
  CHECK(value(page._pad7[0]) == 0);
  CHECK(value(page.edd_mbr_sig_buffer[0]) == 0);
}

TEST_CASE("addresses above 4 GiB go into the ext fields of the zero page") {
  const boot_params page = read_zero_page({.memory_bytes = 8 * kGiB,
                                           .command_line_address = 0x1'2345'6000,
                                           .initrd_address = 0x1'8000'0000,
                                           .initrd_size = 0x1'0000'0010});
  CHECK(value(page.ext_cmd_line_ptr) == 1);
  CHECK(value(page.hdr.cmd_line_ptr) == 0x2345'6000);
  CHECK(value(page.ext_ramdisk_image) == 1);
  CHECK(value(page.hdr.ramdisk_image) == 0x8000'0000);
  CHECK(value(page.ext_ramdisk_size) == 1);
  CHECK(value(page.hdr.ramdisk_size) == 0x10);
  CHECK(value(page.e820_entries) == 4);
}

TEST_CASE("a seed node has its type, its length and the seed, and fits its page") {
  const std::vector<std::byte> seed(64, std::byte{0x5A});
  const auto node = x86::build_rng_seed_node(seed);
  REQUIRE(node.ok());
  REQUIRE(node->size() == 16 + 64);
  CHECK(word(*node, 0) == 0);
  CHECK(word(*node, 1) == (uint64_t{64} << 32 | SETUP_RNG_SEED));
  CHECK((*node)[16] == std::byte{0x5A});
  CHECK(node->back() == std::byte{0x5A});
  CHECK(x86::build_rng_seed_node(std::vector<std::byte>(4080))->size() == x86::kSetupDataMaxSize);
  CHECK(!x86::build_rng_seed_node(std::vector<std::byte>(4081)).ok());
  CHECK(!x86::build_rng_seed_node({}).ok());
}

TEST_CASE("the boot page tables map the first 4 GiB to themselves") {
  const auto tables = x86::build_boot_page_tables();
  REQUIRE(tables.size() == x86::kBootPageTablesSize);
  for (uint64_t address = 0; address < 4 * kGiB; address += 0x1F'F123) {
    REQUIRE(translate(tables, address) == address);
  }
  CHECK(translate(tables, 4 * kGiB - 1) == 4 * kGiB - 1);
  CHECK(word(tables, 1) == 0);
  CHECK(word(tables, 512 + 4) == 0);
}

TEST_CASE("the boot GDT holds what the entry registers say") {
  const auto gdt = x86::build_boot_gdt();
  const x86::EntryState state = x86::build_entry_state(0x100'0200);
  CHECK(gdt.size() == state.gdt_limit + 1u);
  CHECK(state.gdt_base == x86::kBootGdtAddress);
  CHECK(word(gdt, 0) == 0);
  CHECK(word(gdt, state.cs.selector / 8) == 0x00AF'9B00'0000'FFFF);
  CHECK(word(gdt, state.data.selector / 8) == 0x00CF'9300'0000'FFFF);
  CHECK(word(gdt, state.tr.selector / 8) == 0x0000'8B00'0000'0067);
}

TEST_CASE("the entry registers are those of the 64-bit boot protocol") {
  const x86::EntryState state = x86::build_entry_state(0x100'0200);
  CHECK(state.rip == 0x100'0200);
  CHECK(state.rsi == x86::kZeroPageAddress);
  CHECK(state.rflags == 2);
  CHECK(state.cr0 == 0x8000'0031);
  CHECK(state.cr3 == x86::kBootPageTablesAddress);
  CHECK(state.cr4 == 0x20);
  CHECK(state.efer == 0x500);
  CHECK(state.cs.selector == 0x10);
  CHECK(state.cs.long_mode);
  CHECK(!state.cs.default_big);
  CHECK(state.data.selector == 0x18);
}
