// The loader against the kernels that Debian ships, where tests/support/fetch-kernels has put them.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/unit/vmm_loader/images.h"
#include "vmm/loader/load_plan.h"

namespace {

constexpr uint64_t kMiB = 1 << 20;

}  // namespace

TEST_CASE("Debian's cloud kernels parse to sane values and fit 128 MiB") {
  const std::string version = GENERATE(std::string("6.1"), std::string("6.12"));
  const std::string path = ramet::testing::kernel_dir("cloud-" + version) + "/vmlinuz";
  if (!std::filesystem::exists(path)) {
    RAMET_SKIP("no kernel at " + path);
  }
  INFO(path);
  std::ifstream in(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(in), {}};
  const ramet::testing::Bytes file = ramet::testing::to_bytes(content);
  const auto kernel = ramet::parse_kernel(file, path);
  REQUIRE(kernel.ok());
  const auto* image = std::get_if<ramet::BzImage>(&*kernel);
  REQUIRE(image != nullptr);
  CHECK(image->version == 0x020F);
  CHECK(image->pref_address == 0x100'0000);
  CHECK(image->kernel_alignment == 0x20'0000);
  CHECK(image->relocatable);
  CHECK(image->cmdline_size == 2047);
  CHECK(image->initrd_addr_max == 0x7FFF'FFFF);
  CHECK(image->init_size > image->payload.size());
  CHECK(image->init_size < 100 * kMiB);
  CHECK(image->payload.size() > file.size() * 9 / 10);
  const auto plan = ramet::plan_load(
      {.kernel = *kernel, .memory_bytes = 128 * kMiB, .command_line = "console=ttyS0"});
  REQUIRE(plan.ok());
  CHECK(plan->entry.rip == 0x100'0200);
}
