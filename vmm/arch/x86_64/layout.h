// The guest-physical memory map of the x86_64 machine and its I/O ports and interrupt lines, as
// named constants: the one place where an address of the machine is chosen.
//
// Thread rule: constants.
// Invariant: no two ranges overlap (static_asserts below and the unit test), and every number here
// is part of the template's format: changing one makes older templates unloadable.
//
//   0x0000'0500  boot GDT                  0x0000'7000  zero page (struct boot_params)
//   0x0000'8000  setup_data: RNG seed      0x0000'9000  boot page tables (6 pages)
//   0x0002'0000  command line              0x000A'0000  no RAM in the e820 map until 1 MiB
//   0x000E'0000  ACPI tables, reserved     0x000F'0000  VMGenID page, reserved
//   0x0010'0000  RAM: kernel at its pref_address (16 MiB), initrd at the top
//   0xC000'0000  end of low RAM            0xD000'0000  virtio-mmio slots
//   0xFEC0'0000  IOAPIC                    0xFEE0'0000  local APIC
//   0xFFFB'C000  pages of KVM on Intel     0x1'0000'0000  RAM above 3 GiB continues here
#ifndef RAMET_VMM_ARCH_X86_64_LAYOUT_H_
#define RAMET_VMM_ARCH_X86_64_LAYOUT_H_

#include <cstdint>

namespace ramet::x86 {

inline constexpr uint64_t kPageSize = 0x1000;

// --- RAM ---

// RAM below this address is contiguous from 0; what does not fit continues at kHighMemoryStart. The
// gap holds every memory-mapped device.
inline constexpr uint64_t kLowMemoryEnd = 0xC000'0000;
inline constexpr uint64_t kHighMemoryStart = 0x1'0000'0000;
// Bounds of a machine's memory. The lower one holds everything below 1 MiB and a page of RAM above
// (whether a kernel fits is plan_load's to say); the upper one keeps every address below 2^40, the
// smallest physical width that x86-64 processors with two-dimensional paging have.
inline constexpr uint64_t kMinMemoryBytes = 0x20'0000;
inline constexpr uint64_t kMaxMemoryBytes = 0x80'0000'0000;

// --- what the loader writes below 1 MiB ---
// Page 0 holds only the GDT: Linux reads the BIOS data area (0x400-0x4FF) for an EBDA pointer at
// 0x40E, and zeros there mean "none".

inline constexpr uint64_t kBootGdtAddress = 0x500;
inline constexpr uint64_t kZeroPageAddress = 0x7000;
inline constexpr uint64_t kZeroPageSize = 0x1000;
// struct setup_data of type SETUP_RNG_SEED. The kernel reads it and wipes it.
inline constexpr uint64_t kSetupDataAddress = 0x8000;
inline constexpr uint64_t kSetupDataMaxSize = 0x1000;
// PML4, one page directory pointer table, four page directories of 2 MiB pages.
inline constexpr uint64_t kBootPageTablesAddress = 0x9000;
inline constexpr uint64_t kBootPageTablesSize = 6 * kPageSize;
// Linux takes 2,047 characters (COMMAND_LINE_SIZE is 2048); the room is for kernels that take more.
inline constexpr uint64_t kCommandLineAddress = 0x2'0000;
inline constexpr uint64_t kCommandLineRoom = 0x1'0000;
// Conventional memory ends here in the e820 map: above would be the EBDA and the VGA window.
inline constexpr uint64_t kConventionalMemoryEnd = 0x9'FC00;

// --- e820-reserved: the guest never allocates from it ---

inline constexpr uint64_t kReservedStart = 0xE'0000;
inline constexpr uint64_t kReservedEnd = 0x10'0000;
// The RSDP comes first, so also the legacy scan of 0xE0000-0xFFFFF finds it (ACPI 6.5, 5.2.5.1).
inline constexpr uint64_t kAcpiTablesAddress = 0xE'0000;
inline constexpr uint64_t kAcpiTablesRoom = 0x1'0000;
// One page for the VM generation id. The specification ("Virtual Machine Generation ID", Microsoft)
// wants the 16 bytes 8-byte aligned, in memory that is neither RAM to the guest nor
// ACPI-reclaimable; offset 0x28 is QEMU's convention (docs/specs/vmgenid).
inline constexpr uint64_t kVmGenIdPageAddress = 0xF'0000;
inline constexpr uint64_t kVmGenIdGuidOffset = 0x28;
inline constexpr uint64_t kVmGenIdGuidAddress = kVmGenIdPageAddress + kVmGenIdGuidOffset;
inline constexpr uint64_t kVmGenIdGuidSize = 16;

// --- the kernel ---

inline constexpr uint64_t kKernelMinAddress = 0x10'0000;

// --- memory-mapped devices, between kLowMemoryEnd and kHighMemoryStart ---

inline constexpr uint64_t kVirtioMmioBase = 0xD000'0000;
// A page each, so that a slot could get its own mapping; the device answers in the first 0x200
// bytes (registers 0x000-0x0FF, configuration space from 0x100: virtio 1.2, 4.2.2).
inline constexpr uint64_t kVirtioMmioSlotSize = 0x1000;
inline constexpr uint64_t kVirtioMmioRegisterSize = 0x200;
// Every slot is in the DSDT from the first boot, empty or not: virtio-mmio has no hotplug.
inline constexpr uint32_t kVirtioMmioSlots = 8;
constexpr uint64_t virtio_mmio_address(uint32_t slot) {
  return kVirtioMmioBase + slot * kVirtioMmioSlotSize;
}

inline constexpr uint64_t kIoApicAddress = 0xFEC0'0000;
inline constexpr uint64_t kIoApicSize = 0x1000;
inline constexpr uint64_t kLocalApicAddress = 0xFEE0'0000;
inline constexpr uint64_t kLocalApicSize = 0x1000;
// KVM_SET_IDENTITY_MAP_ADDR and KVM_SET_TSS_ADDR (Intel without unrestricted guest): one page and
// three pages that must lie within the first 4 GiB and outside every memslot.
inline constexpr uint64_t kKvmIdentityMapAddress = 0xFFFB'C000;
inline constexpr uint64_t kKvmTssAddress = 0xFFFB'D000;
inline constexpr uint64_t kKvmTssSize = 0x3000;

// --- interrupt lines: pins of the one IOAPIC; all edge-triggered, active high ---

inline constexpr uint32_t kIoApicPins = 24;
inline constexpr uint8_t kIoApicId = 0;
inline constexpr uint32_t kSerialGsi = 4;  // COM1's ISA line
// The generic event device raises this line when the VM generation id has changed. The line is the
// whole message: there is no event register, so the device has no state to save. A second kind of
// event would get a second line.
inline constexpr uint32_t kGedGsi = 5;
// 16 and up have no ISA meaning, so need no override in the MADT.
inline constexpr uint32_t kVirtioMmioFirstGsi = 16;
constexpr uint32_t virtio_mmio_gsi(uint32_t slot) { return kVirtioMmioFirstGsi + slot; }

// --- I/O ports, byte-wide ---

inline constexpr uint16_t kSerialPort = 0x3F8;
inline constexpr uint16_t kSerialPortSize = 8;
// One block of the power device: ACPI 6.5, 4.8.3.7 (sleep control, sleep status) and 4.8.3.6
// (reset). To power off, the guest writes kSleepEnable | kSleepTypeS5 << kSleepTypeShift to
// kSleepControlPort; to reset, kResetValue to kResetPort. kSleepStatusPort reads 0 and drops writes
// (bit 7 would say "woken", which never happens).
inline constexpr uint16_t kPowerPort = 0x600;
inline constexpr uint16_t kPowerPortSize = 3;
inline constexpr uint16_t kSleepControlPort = kPowerPort + 0;
inline constexpr uint16_t kSleepStatusPort = kPowerPort + 1;
inline constexpr uint16_t kResetPort = kPowerPort + 2;
inline constexpr uint8_t kSleepEnable = 1 << 5;
inline constexpr uint8_t kSleepTypeShift = 2;
inline constexpr uint8_t kSleepTypeMask = 7;
inline constexpr uint8_t kSleepTypeS5 = 5;
inline constexpr uint8_t kResetValue = 0x01;

// --- processors ---

// The local APIC id of a vCPU is its index.
inline constexpr uint32_t kMaxVcpus = 8;

static_assert(kBootGdtAddress + 0x100 <= kZeroPageAddress);
static_assert(kZeroPageAddress + kZeroPageSize <= kSetupDataAddress);
static_assert(kSetupDataAddress + kSetupDataMaxSize <= kBootPageTablesAddress);
static_assert(kBootPageTablesAddress + kBootPageTablesSize <= kCommandLineAddress);
static_assert(kCommandLineAddress + kCommandLineRoom <= kConventionalMemoryEnd);
static_assert(kReservedStart <= kAcpiTablesAddress);
static_assert(kAcpiTablesAddress + kAcpiTablesRoom <= kVmGenIdPageAddress);
static_assert(kVmGenIdPageAddress + kPageSize <= kReservedEnd);
static_assert(kVmGenIdGuidAddress % 8 == 0);
static_assert(kReservedEnd <= kKernelMinAddress);
static_assert(kLowMemoryEnd <= kVirtioMmioBase);
static_assert(kVirtioMmioRegisterSize <= kVirtioMmioSlotSize);
static_assert(virtio_mmio_address(kVirtioMmioSlots) <= kIoApicAddress);
static_assert(kIoApicAddress + kIoApicSize <= kLocalApicAddress);
static_assert(kLocalApicAddress + kLocalApicSize <= kKvmIdentityMapAddress);
static_assert(kKvmIdentityMapAddress + kPageSize <= kKvmTssAddress);
static_assert(kKvmTssAddress + kKvmTssSize <= kHighMemoryStart);
static_assert(kVirtioMmioFirstGsi + kVirtioMmioSlots <= kIoApicPins);

}  // namespace ramet::x86

#endif  // RAMET_VMM_ARCH_X86_64_LAYOUT_H_
