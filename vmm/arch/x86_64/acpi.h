// The machine's ACPI tables as bytes: RSDP, XSDT, FADT, MADT and DSDT of a hardware-reduced
// platform (ACPI 6.5, 4.1).
//
// Thread rule: pure functions.
// Invariant: the tables name only addresses, ports and lines of layout.h, are checksummed, and fit
// kAcpiTablesRoom; the same config gives the same bytes.
#ifndef RAMET_VMM_ARCH_X86_64_ACPI_H_
#define RAMET_VMM_ARCH_X86_64_ACPI_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/status.h"

namespace ramet::x86 {

struct AcpiConfig {
  uint32_t vcpus = 1;  // 1 to kMaxVcpus; all are enabled from the start
};

// One block: write `bytes` at `address`, and give `rsdp_address` to the kernel in the zero page.
// Offsets into `bytes` tell where each table begins; a table ends where its own length says.
struct AcpiTables {
  std::vector<std::byte> bytes;
  uint64_t address = kAcpiTablesAddress;
  uint64_t rsdp_address = kAcpiTablesAddress;
  size_t dsdt_offset = 0;
  size_t fadt_offset = 0;
  size_t madt_offset = 0;
  size_t xsdt_offset = 0;
};

// InvalidArgument where `config` is out of its bounds.
StatusOr<AcpiTables> build_acpi(const AcpiConfig& config);

}  // namespace ramet::x86

#endif  // RAMET_VMM_ARCH_X86_64_ACPI_H_
