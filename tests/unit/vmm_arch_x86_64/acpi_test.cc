#include "vmm/arch/x86_64/acpi.h"

#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch.hpp>

namespace x86 = ramet::x86;

namespace {

x86::AcpiTables tables_for(uint32_t vcpus) {
  auto tables = x86::build_acpi({.vcpus = vcpus});
  REQUIRE(tables.ok());
  return *std::move(tables);
}

template <typename T>
T get(std::span<const std::byte> bytes, size_t offset) {
  REQUIRE(offset + sizeof(T) <= bytes.size());
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::string text(std::span<const std::byte> bytes, size_t offset, size_t size) {
  std::string result;
  for (const std::byte byte : bytes.subspan(offset, size)) {
    result += static_cast<char>(byte);
  }
  return result;
}

unsigned sum(std::span<const std::byte> bytes) {
  unsigned result = 0;
  for (const std::byte byte : bytes) {
    result += std::to_integer<unsigned>(byte);
  }
  return result % 256;
}

// The table that begins at `offset`, as long as it says it is.
std::span<const std::byte> table_at(const x86::AcpiTables& tables, size_t offset) {
  const std::span<const std::byte> rest = std::span(tables.bytes).subspan(offset);
  const auto length = get<uint32_t>(rest, 4);
  REQUIRE(length <= rest.size());
  return rest.first(length);
}

// The generic address structure at `offset` is one byte-wide port.
uint64_t port_at(std::span<const std::byte> table, size_t offset) {
  CHECK(get<uint8_t>(table, offset) == 1);
  CHECK(get<uint8_t>(table, offset + 1) == 8);
  CHECK(get<uint8_t>(table, offset + 2) == 0);
  CHECK(get<uint8_t>(table, offset + 3) == 1);
  return get<uint64_t>(table, offset + 4);
}

size_t count_of(std::span<const std::byte> table, std::string_view needle) {
  const std::string haystack = text(table, 0, table.size());
  size_t count = 0;
  for (size_t at = haystack.find(needle); at != std::string::npos;
       at = haystack.find(needle, at + 1)) {
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("vCPU counts of 0 and above the limit are refused with both numbers") {
  CHECK(x86::build_acpi({.vcpus = 0}).status().code() == absl::StatusCode::kInvalidArgument);
  const auto tables = x86::build_acpi({.vcpus = x86::kMaxVcpus + 1});
  CHECK(tables.status().message() == "9 vCPUs asked for; a machine has 1 to 8");
}

TEST_CASE("every ACPI table sums to zero, has its signature and is 16-byte aligned") {
  for (uint32_t vcpus = 1; vcpus <= x86::kMaxVcpus; ++vcpus) {
    const auto tables = tables_for(vcpus);
    const std::map<std::string, size_t> offsets = {{"DSDT", tables.dsdt_offset},
                                                   {"FACP", tables.fadt_offset},
                                                   {"APIC", tables.madt_offset},
                                                   {"XSDT", tables.xsdt_offset}};
    for (const auto& [signature, offset] : offsets) {
      const auto table = table_at(tables, offset);
      CHECK(text(table, 0, 4) == signature);
      CHECK(text(table, 10, 6) == "RAMET ");
      CHECK(sum(table) == 0);
      CHECK(offset % 16 == 0);
    }
    CHECK(tables.bytes.size() <= x86::kAcpiTablesRoom);
  }
}

TEST_CASE("the RSDP is first, has both checksums and leads to the XSDT, FADT, MADT and DSDT") {
  const auto tables = tables_for(2);
  const std::span<const std::byte> rsdp = std::span(tables.bytes).first(36);
  CHECK(tables.rsdp_address == tables.address);
  CHECK(text(rsdp, 0, 8) == "RSD PTR ");
  CHECK(sum(rsdp.first(20)) == 0);
  CHECK(sum(rsdp) == 0);
  CHECK(get<uint8_t>(rsdp, 15) == 2);
  CHECK(get<uint32_t>(rsdp, 20) == 36);
  CHECK(get<uint64_t>(rsdp, 24) == tables.address + tables.xsdt_offset);
  const auto xsdt = table_at(tables, tables.xsdt_offset);
  REQUIRE(xsdt.size() == 36 + 2 * 8);
  CHECK(get<uint64_t>(xsdt, 36) == tables.address + tables.fadt_offset);
  CHECK(get<uint64_t>(xsdt, 44) == tables.address + tables.madt_offset);
  const auto fadt = table_at(tables, tables.fadt_offset);
  CHECK(get<uint32_t>(fadt, 40) == 0);
  CHECK(get<uint64_t>(fadt, 140) == tables.address + tables.dsdt_offset);
}

TEST_CASE("the FADT is hardware-reduced, resettable, and denies the RTC, VGA and 8042") {
  const auto tables = tables_for(1);
  const auto fadt = table_at(tables, tables.fadt_offset);
  REQUIRE(fadt.size() == 276);
  CHECK(get<uint8_t>(fadt, 8) == 6);
  CHECK(get<uint16_t>(fadt, 109) == 0b100100);
  const auto flags = get<uint32_t>(fadt, 112);
  CHECK((flags & (1u << 20)) != 0);
  CHECK((flags & (1u << 10)) != 0);
  CHECK(port_at(fadt, 116) == x86::kResetPort);
  CHECK(get<uint8_t>(fadt, 128) == x86::kResetValue);
  CHECK(port_at(fadt, 244) == x86::kSleepControlPort);
  CHECK(port_at(fadt, 256) == x86::kSleepStatusPort);
}

TEST_CASE("the MADT has no 8259, one local APIC per vCPU, the IOAPIC, and edge overrides") {
  const uint32_t vcpus = GENERATE(1u, 2u, 8u);
  const auto tables = tables_for(vcpus);
  const auto madt = table_at(tables, tables.madt_offset);
  CHECK(get<uint32_t>(madt, 36) == x86::kLocalApicAddress);
  CHECK(get<uint32_t>(madt, 40) == 0);
  std::vector<uint8_t> apic_ids;
  std::vector<uint32_t> overrides;
  size_t io_apics = 0;
  for (size_t at = 44; at < madt.size(); at += get<uint8_t>(madt, at + 1)) {
    const auto type = get<uint8_t>(madt, at);
    if (type == 0) {
      CHECK(get<uint32_t>(madt, at + 4) == 1);
      apic_ids.push_back(get<uint8_t>(madt, at + 3));
    } else if (type == 1) {
      ++io_apics;
      CHECK(get<uint32_t>(madt, at + 4) == x86::kIoApicAddress);
      CHECK(get<uint32_t>(madt, at + 8) == 0);
    } else {
      REQUIRE(type == 2);
      CHECK(get<uint8_t>(madt, at + 3) == get<uint32_t>(madt, at + 4));
      CHECK(get<uint16_t>(madt, at + 8) == 0b0101);
      overrides.push_back(get<uint32_t>(madt, at + 4));
    }
    REQUIRE(get<uint8_t>(madt, at + 1) > 0);
  }
  REQUIRE(apic_ids.size() == vcpus);
  for (uint32_t i = 0; i < vcpus; ++i) {
    CHECK(apic_ids[i] == i);
  }
  CHECK(io_apics == 1);
  CHECK(overrides == std::vector<uint32_t>{x86::kSerialGsi, x86::kGedGsi});
}

TEST_CASE("the DSDT has every virtio-mmio slot, used or not, and the VM generation id") {
  const auto tables = tables_for(1);
  const auto dsdt = table_at(tables, tables.dsdt_offset);
  CHECK(get<uint8_t>(dsdt, 8) == 2);
  CHECK(count_of(dsdt, "LNRO0005") == x86::kVirtioMmioSlots);
  CHECK(count_of(dsdt, "VM_Gen_Counter") == 2);
  CHECK(count_of(dsdt, "RAMT0001") == 1);
  CHECK(count_of(dsdt, "ACPI0013") == 1);
  CHECK(count_of(dsdt, "_S5_") == 1);
  CHECK(count_of(dsdt, "_EVT") == 1);
  CHECK(count_of(dsdt, "_E05") == 1);
}

TEST_CASE("the same config gives the same ACPI bytes") {
  CHECK(tables_for(3).bytes == tables_for(3).bytes);
}
