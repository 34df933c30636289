#include "vmm/arch/x86_64/acpi.h"

#include <algorithm>
#include <string>
#include <string_view>

#include <absl/strings/str_format.h>

#include "vmm/arch/x86_64/aml.h"

namespace ramet::x86 {
namespace {

constexpr size_t kHeaderSize = 36;  // ACPI 6.5, table 5.4
constexpr size_t kRsdpSize = 36;    // table 5.3
constexpr size_t kRsdpV1Size = 20;  // what the first checksum covers
constexpr size_t kFadtSize = 276;   // table 5.9
constexpr size_t kTableAlignment = 16;
constexpr std::string_view kOemId = "RAMET ";
constexpr std::string_view kOemTableId = "RAMETVMM";
constexpr std::string_view kCreatorId = "RAMT";

// A table under construction: fields are put at the offsets that the specification's tables give.
class Table {
 public:
  // With the header of table 5.4, its length and checksum left to finish().
  Table(std::string_view signature, uint8_t revision, size_t size) : bytes_(size) {
    put_text(0, signature);
    put(8, revision, 1);
    put_text(10, kOemId);
    put_text(16, kOemTableId);
    put(24, 1, 4);
    put_text(28, kCreatorId);
    put(32, 1, 4);
  }

  void put(size_t offset, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) {
      bytes_[offset + i] = static_cast<std::byte>(value >> (8 * i));
    }
  }
  void put_text(size_t offset, std::string_view text) {
    for (size_t i = 0; i < text.size(); ++i) {
      bytes_[offset + i] = static_cast<std::byte>(text[i]);
    }
  }
  // A generic address structure (table 5.1) for one byte-wide port.
  void put_port(size_t offset, uint16_t port) {
    put(offset, 1, 1);      // system I/O space
    put(offset + 1, 8, 1);  // bits wide
    put(offset + 3, 1, 1);  // byte access
    put(offset + 4, port, 8);
  }
  void append(uint64_t value, size_t size) {
    const size_t offset = bytes_.size();
    bytes_.resize(offset + size);
    put(offset, value, size);
  }
  void append(const aml::Bytes& bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

  // Sets the length and the checksum.
  const std::vector<std::byte>& finish() {
    put(4, bytes_.size(), 4);
    put_checksum(9, bytes_.size());
    return bytes_;
  }

 protected:
  explicit Table(size_t size) : bytes_(size) {}
  // Makes the first `covered` bytes sum to zero by the byte at `offset`.
  void put_checksum(size_t offset, size_t covered) {
    bytes_[offset] = std::byte{0};
    uint8_t sum = 0;
    for (size_t i = 0; i < covered; ++i) {
      sum = static_cast<uint8_t>(sum + std::to_integer<uint8_t>(bytes_[i]));
    }
    bytes_[offset] = static_cast<std::byte>(-sum);
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Table 5.3: the one table without the common header.
class Rsdp : public Table {
 public:
  explicit Rsdp(uint64_t xsdt_address) : Table(kRsdpSize) {
    put_text(0, "RSD PTR ");
    put_text(9, kOemId);
    put(15, 2, 1);  // revision
    put(20, kRsdpSize, 4);
    put(24, xsdt_address, 8);
    put_checksum(8, kRsdpV1Size);
    put_checksum(32, kRsdpSize);
  }
  using Table::bytes;
};

aml::Bytes serial_device() {
  return aml::device(
      "COM1", aml::join({
                  aml::name("_HID", aml::eisa_id("PNP0501")),
                  aml::name("_UID", aml::integer(1)),
                  aml::name("_CRS", aml::resources({aml::io_port(kSerialPort, kSerialPortSize),
                                                    aml::isa_irq(kSerialGsi)})),
              }));
}

aml::Bytes vmgenid_device() {
  const auto low = static_cast<uint32_t>(kVmGenIdGuidAddress);
  // Drivers bind by _CID. "VM_Gen_Counter" is the specification's name but longer than ACPI allows,
  // so "VMGENCTR" stands beside it, as in Hyper-V. The _HID is the vendor's own by specification.
  return aml::device(
      "VGEN",
      aml::join({
          aml::name("_HID", aml::string("RAMT0001")),
          aml::name("_CID", aml::package({aml::string("VM_Gen_Counter"), aml::string("VMGENCTR")})),
          aml::name("_DDN", aml::string("VM_Gen_Counter")),
          aml::name("ADDR",
                    aml::package({aml::integer(low), aml::integer(kVmGenIdGuidAddress >> 32)})),
      }));
}

// ACPI 6.5, 5.6.9: _EVT is called with the line's number. 0x80 is "the generation id changed". For
// an edge-triggered line below 256 Linux calls _Exx of its number instead where there is one
// (drivers/acpi/evged.c): no argument and no comparison for its interpreter.
aml::Bytes generic_event_device() {
  const aml::Bytes changed = aml::notify("\\_SB_.VGEN", 0x80);
  const aml::Bytes on_event =
      aml::if_then(aml::equal(aml::argument(0), aml::integer(kGedGsi)), changed);
  return aml::device("GED_", aml::join({
                                 aml::name("_HID", aml::string("ACPI0013")),
                                 aml::name("_UID", aml::integer(0)),
                                 aml::name("_CRS", aml::resources({aml::edge_interrupt(kGedGsi)})),
                                 aml::method(absl::StrFormat("_E%02X", kGedGsi), 0, changed),
                                 aml::method("_EVT", 1, on_event),
                             }));
}

aml::Bytes virtio_mmio_device(uint32_t slot) {
  const std::string device_name = absl::StrFormat("VIO%X", slot);
  const auto address = static_cast<uint32_t>(virtio_mmio_address(slot));
  return aml::device(
      device_name,
      aml::join({
          aml::name("_HID", aml::string("LNRO0005")),
          aml::name("_UID", aml::integer(slot)),
          aml::name("_CCA", aml::integer(1)),
          aml::name("_CRS", aml::resources({aml::memory32_fixed(address, kVirtioMmioRegisterSize),
                                            aml::edge_interrupt(virtio_mmio_gsi(slot))})),
      }));
}

std::vector<std::byte> build_dsdt() {
  aml::Bytes devices = aml::join({serial_device(), vmgenid_device(), generic_event_device()});
  for (uint32_t slot = 0; slot < kVirtioMmioSlots; ++slot) {
    devices = aml::join({devices, virtio_mmio_device(slot)});
  }
  const aml::Bytes sleep_type = aml::integer(kSleepTypeS5);
  Table table("DSDT", 2, kHeaderSize);  // revision 2: integers have 64 bits
  table.append(aml::name("\\_S5_", aml::package({sleep_type, sleep_type})));
  table.append(aml::scope("\\_SB_", devices));
  return table.finish();
}

// Table 5.9. Fields left zero belong to the hardware that a reduced platform does not have (4.1).
std::vector<std::byte> build_fadt(uint64_t dsdt_address) {
  constexpr uint16_t kVgaNotPresent = 1 << 2;
  constexpr uint16_t kCmosRtcNotPresent = 1 << 5;
  constexpr uint32_t kWbinvd = 1 << 0;
  constexpr uint32_t kProcC1 = 1 << 2;
  constexpr uint32_t kPowerButtonNotFixed = 1 << 4;
  constexpr uint32_t kSleepButtonNotFixed = 1 << 5;
  constexpr uint32_t kResetRegSup = 1 << 10;
  constexpr uint32_t kHwReducedAcpi = 1 << 20;
  Table table("FACP", 6, kFadtSize);
  // IAPC_BOOT_ARCH (table 5.11): with bit 1 (8042) and these two bits Linux skips the probes of
  // devices that are not there; waiting for an absent RTC costs seconds.
  table.put(109, kVgaNotPresent | kCmosRtcNotPresent, 2);
  table.put(112,
            kWbinvd | kProcC1 | kPowerButtonNotFixed | kSleepButtonNotFixed | kResetRegSup |
                kHwReducedAcpi,
            4);
  table.put_port(116, kResetPort);
  table.put(128, kResetValue, 1);
  table.put(131, 5, 1);  // minor version: 6.5
  table.put(140, dsdt_address, 8);
  table.put_port(244, kSleepControlPort);
  table.put_port(256, kSleepStatusPort);
  table.put_text(268, "RAMET");  // hypervisor vendor identity
  return table.finish();
}

// 5.2.12. PCAT_COMPAT (flags bit 0) stays clear: there is no 8259.
std::vector<std::byte> build_madt(uint32_t vcpus) {
  constexpr uint8_t kLocalApic = 0;
  constexpr uint8_t kIoApic = 1;
  constexpr uint8_t kSourceOverride = 2;
  constexpr uint16_t kEdgeActiveHigh = 0b0101;  // table 5.26
  Table table("APIC", 4, kHeaderSize);
  table.append(kLocalApicAddress, 4);
  table.append(0, 4);
  for (uint32_t cpu = 0; cpu < vcpus; ++cpu) {
    table.append(kLocalApic, 1);
    table.append(8, 1);
    table.append(cpu, 1);  // processor UID
    table.append(cpu, 1);  // APIC id
    table.append(1, 4);    // enabled
  }
  table.append(kIoApic, 1);
  table.append(12, 1);
  table.append(kIoApicId, 1);
  table.append(0, 1);
  table.append(kIoApicAddress, 4);
  table.append(0, 4);  // its first line is GSI 0
  for (const uint32_t gsi : {kSerialGsi, kGedGsi}) {
    table.append(kSourceOverride, 1);
    table.append(10, 1);
    table.append(0, 1);    // ISA
    table.append(gsi, 1);  // source and line are the same; what counts are the flags
    table.append(gsi, 4);
    table.append(kEdgeActiveHigh, 2);
  }
  return table.finish();
}

std::vector<std::byte> build_xsdt(uint64_t fadt_address, uint64_t madt_address) {
  Table table("XSDT", 1, kHeaderSize);
  table.append(fadt_address, 8);
  table.append(madt_address, 8);
  return table.finish();
}

// Appends `table` on the next boundary; its offset.
size_t place(std::vector<std::byte>& into, const std::vector<std::byte>& table) {
  const size_t offset = (into.size() + kTableAlignment - 1) / kTableAlignment * kTableAlignment;
  into.resize(offset);
  into.insert(into.end(), table.begin(), table.end());
  return offset;
}

}  // namespace

StatusOr<AcpiTables> build_acpi(const AcpiConfig& config) {
  if (config.vcpus < 1 || config.vcpus > kMaxVcpus) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%u vCPUs asked for; a machine has 1 to %u", config.vcpus, kMaxVcpus));
  }
  AcpiTables tables;
  tables.bytes.resize(kRsdpSize);
  tables.dsdt_offset = place(tables.bytes, build_dsdt());
  tables.fadt_offset = place(tables.bytes, build_fadt(tables.address + tables.dsdt_offset));
  tables.madt_offset = place(tables.bytes, build_madt(config.vcpus));
  tables.xsdt_offset = place(tables.bytes, build_xsdt(tables.address + tables.fadt_offset,
                                                      tables.address + tables.madt_offset));
  const Rsdp rsdp(tables.address + tables.xsdt_offset);
  std::copy(rsdp.bytes().begin(), rsdp.bytes().end(), tables.bytes.begin());
  if (tables.bytes.size() > kAcpiTablesRoom) {
    return absl::InternalError(absl::StrFormat("ACPI tables take %u bytes of the %u there are",
                                               tables.bytes.size(), kAcpiTablesRoom));
  }
  return tables;
}

}  // namespace ramet::x86
