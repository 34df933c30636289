// What a Linux kernel finds at its 64-bit entry (Documentation/arch/x86/boot.rst, "64-bit boot
// protocol"): memory map, zero page, descriptor table, page tables and registers, as plain bytes
// and numbers for the caller to put in place.
//
// Thread rule: pure functions.
// Invariant: every address in the results is one of layout.h or was given by the caller; guest
// memory that no write covers is expected to be zero.
#ifndef RAMET_VMM_ARCH_X86_64_BOOT_H_
#define RAMET_VMM_ARCH_X86_64_BOOT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/status.h"

namespace ramet::x86 {

// Where a machine's RAM lies: [0, low_bytes) and [kHighMemoryStart, kHighMemoryStart + high_bytes).
struct RamRanges {
  uint64_t low_bytes = 0;
  uint64_t high_bytes = 0;
};

// InvalidArgument unless `memory_bytes` is a multiple of the page size within
// [kMinMemoryBytes, kMaxMemoryBytes].
StatusOr<RamRanges> split_ram(uint64_t memory_bytes);

enum class E820Type : uint32_t { kRam = 1, kReserved = 2 };  // ACPI 6.5, table 15.3

struct E820Entry {
  uint64_t address = 0;
  uint64_t size = 0;
  E820Type type = E820Type::kRam;
  bool operator==(const E820Entry&) const = default;
};

// The memory map given to the kernel, sorted and without overlaps. Errors as split_ram.
StatusOr<std::vector<E820Entry>> e820_map(uint64_t memory_bytes);

struct ZeroPageConfig {
  // The file's bytes from offset 0x1F1 to the end of its setup header; empty for an ELF kernel,
  // which gets a header of our own. What does not fit the structure is dropped.
  std::span<const std::byte> setup_header = {};
  uint64_t memory_bytes = 0;
  uint64_t kernel_address = 0;
  uint64_t command_line_address = kCommandLineAddress;
  uint64_t initrd_address = 0;
  uint64_t initrd_size = 0;                    // 0: no initrd
  uint64_t rsdp_address = kAcpiTablesAddress;  // 0: no ACPI
  uint64_t setup_data_address = 0;             // 0: no setup_data
};

// struct boot_params, kZeroPageSize bytes to write at kZeroPageAddress. Errors as split_ram.
StatusOr<std::vector<std::byte>> build_zero_page(const ZeroPageConfig& config);

// A struct setup_data of type SETUP_RNG_SEED, to write at kSetupDataAddress. InvalidArgument where
// `seed` is empty or the node would pass kSetupDataMaxSize.
StatusOr<std::vector<std::byte>> build_rng_seed_node(std::span<const std::byte> seed);

// The boot descriptor table, to write at kBootGdtAddress.
std::vector<std::byte> build_boot_gdt();

// An identity map of the first 4 GiB in 2 MiB pages (1 GiB pages would need a CPUID bit that not
// every host has), kBootPageTablesSize bytes to write at kBootPageTablesAddress.
std::vector<std::byte> build_boot_page_tables();

// A segment register with its hidden part, in the terms of the Intel manual (volume 3, 3.4.5).
struct SegmentState {
  uint64_t base = 0;
  uint32_t limit = 0;
  uint16_t selector = 0;
  uint8_t type = 0;
  uint8_t dpl = 0;
  bool present = false;
  bool code_or_data = false;  // the S bit
  bool long_mode = false;     // L
  bool default_big = false;   // D/B
  bool granular = false;      // G
};

// The boot processor's registers at the kernel's 64-bit entry. General registers not named are 0.
// Other processors wait for INIT and SIPI and need nothing.
struct EntryState {
  uint64_t rip = 0;
  uint64_t rsi = 0;  // address of the zero page
  uint64_t rflags = 0;
  uint64_t cr0 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;
  SegmentState cs;
  SegmentState data;  // ds, es, fs, gs and ss
  SegmentState tr;
  uint64_t gdt_base = 0;
  uint16_t gdt_limit = 0;  // the IDT has base 0 and limit 0: interrupts are off
};

EntryState build_entry_state(uint64_t entry_address);

}  // namespace ramet::x86

#endif  // RAMET_VMM_ARCH_X86_64_BOOT_H_
