// The ACPI tables as the reference compiler sees them: iasl disassembles each, compiles the result
// and must come back with the same bytes.
#include <stdlib.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "vmm/arch/x86_64/acpi.h"

namespace x86 = ramet::x86;
namespace fs = std::filesystem;

namespace {

// Runs iasl in `folder`; its output.
std::string iasl(const fs::path& folder, const std::string& arguments) {
  const std::string command = "cd " + folder.string() + " && iasl " + arguments + " >log 2>&1";
  const int status = std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe)
  const std::string log = ramet::testing::read_file(folder / "log");
  INFO(log);
  CHECK(status == 0);
  return log;
}

bool iasl_present() {
  return std::system("command -v iasl >/dev/null 2>&1") == 0;  // NOLINT(concurrency-mt-unsafe)
}

std::string table_at(const x86::AcpiTables& tables, size_t offset) {
  uint32_t length = 0;
  std::memcpy(&length, tables.bytes.data() + offset + 4, sizeof(length));
  std::string result(length, '\0');
  std::memcpy(result.data(), tables.bytes.data() + offset, length);
  return result;
}

// The compiler puts its own name and version into bytes 28 to 35 and so changes the checksum.
std::string without_compiler_stamp(std::string table) {
  table.replace(28, 8, 8, '\0');
  table[9] = '\0';
  return table;
}

// -oa: no optimizations, which would shorten absolute paths.
std::string round_trip(const std::string& table, std::string* log, std::string* source) {
  const ramet::testing::TempDir folder;
  folder.write("table.dat", table);
  *log = iasl(folder.path(), "-d table.dat");
  *source = folder.read("table.dsl");
  *log += iasl(folder.path(), "-oa -p again table.dsl");
  return folder.read("again.aml");
}

}  // namespace

TEST_CASE("iasl disassembles each ACPI table and compiles it back to the same bytes") {
  if (!iasl_present()) {
    RAMET_SKIP("iasl is not installed (Debian package acpica-tools)");
  }
  const auto tables = x86::build_acpi({.vcpus = 2});
  REQUIRE(tables.ok());
  for (const size_t offset :
       {tables->dsdt_offset, tables->fadt_offset, tables->madt_offset, tables->xsdt_offset}) {
    const std::string table = table_at(*tables, offset);
    INFO("table " << table.substr(0, 4));
    std::string log;
    std::string source;
    const std::string again = round_trip(table, &log, &source);
    INFO(log << source);
    CHECK(log.find("0 Errors") != std::string::npos);
    CHECK(log.find("Warning  ") == std::string::npos);
    CHECK(again.size() == table.size());
    CHECK(without_compiler_stamp(again) == without_compiler_stamp(table));
  }
}
