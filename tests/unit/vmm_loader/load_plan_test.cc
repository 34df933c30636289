#include "vmm/loader/load_plan.h"

#include <asm/bootparam.h>

#include <algorithm>
#include <cstring>
#include <string>

#include <catch2/catch.hpp>

#include "tests/unit/vmm_loader/images.h"
#include "vmm/arch/x86_64/layout.h"

using namespace ramet::testing;
namespace x86 = ramet::x86;

namespace {

constexpr uint64_t kMiB = 1 << 20;

const ramet::GuestWrite& find(const ramet::LoadPlan& plan, std::string_view what) {
  const auto found = std::ranges::find(plan.writes, what, &ramet::GuestWrite::what);
  REQUIRE(found != plan.writes.end());
  return *found;
}

// A packed structure's field by value: a check must not bind a reference to it.
template <typename T>
uint64_t value(T field) {
  return field;
}

boot_params zero_page(const ramet::LoadPlan& plan) {
  const ramet::GuestWrite& write = find(plan, "zero page");
  REQUIRE(write.bytes.size() == sizeof(boot_params));
  boot_params page;
  std::memcpy(&page, write.bytes.data(), sizeof(page));
  return page;
}

ramet::KernelImage kernel(const Bytes& file) {
  auto image = ramet::parse_kernel(file, "test");
  REQUIRE(image.ok());
  return *std::move(image);
}

std::string refused(const ramet::LoadRequest& request, absl::StatusCode code) {
  const auto plan = ramet::plan_load(request);
  CHECK(plan.status().code() == code);
  return std::string(plan.status().message());
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;

}  // namespace

TEST_CASE("parse_kernel tells the kind of a kernel by its magic") {
  CHECK(std::holds_alternative<ramet::BzImage>(kernel(make_bzimage())));
  CHECK(std::holds_alternative<ramet::ElfImage>(kernel(make_elf())));
}

TEST_CASE("what is no kernel is told by name, with its size and first bytes") {
  const auto image = ramet::parse_kernel(to_bytes("\x1F\x8B\x08 hello"), "/boot/x.gz");
  CHECK(image.status().code() == kInvalid);
  CHECK(image.status().message() ==
        "/boot/x.gz is not a Linux kernel: no \"HdrS\" at 0x202 and no ELF magic; its first bytes "
        "of 9 are 1f 8b 08 20 68 65 6c 6c");
  CHECK(ramet::parse_kernel({}, "k").status().message() == "k is not a Linux kernel: it is empty");
}

TEST_CASE("a damaged kernel's message carries the file's name") {
  Bytes file = make_bzimage();
  file.resize(1100);
  const auto image = ramet::parse_kernel(file, "vmlinuz");
  CHECK(image.status().code() == absl::StatusCode::kDataLoss);
  CHECK(std::string(image.status().message()).find("kernel vmlinuz: the bzImage is cut short") ==
        0);
}

TEST_CASE("a bzImage is planned at its preferred address with everything it needs") {
  const Bytes file = make_bzimage();
  const Bytes initrd = to_bytes(make_cpio());
  const Bytes seed(32, std::byte{7});
  const auto plan = ramet::plan_load({.kernel = kernel(file),
                                      .memory_bytes = 128 * kMiB,
                                      .initrd = initrd,
                                      .command_line = "console=ttyS0",
                                      .rng_seed = seed});
  REQUIRE(plan.ok());
  CHECK(plan->kernel_address == 0x100'0000);
  CHECK(plan->kernel_end == 0x110'0000);
  CHECK(plan->entry.rip == 0x100'0200);
  CHECK(find(*plan, "kernel").address == 0x100'0000);
  CHECK(find(*plan, "kernel").bytes.data() == file.data() + 1024);
  CHECK(plan->initrd_address == 128 * kMiB - 4096);
  CHECK(find(*plan, "initrd").bytes.data() == initrd.data());
  CHECK(find(*plan, "command line").address == x86::kCommandLineAddress);
  CHECK(find(*plan, "boot seed").address == x86::kSetupDataAddress);
  CHECK(find(*plan, "boot GDT").address == x86::kBootGdtAddress);
  CHECK(find(*plan, "boot page tables").address == x86::kBootPageTablesAddress);
  const boot_params page = zero_page(*plan);
  CHECK(value(page.hdr.version) == 0x020F);
  CHECK(value(page.hdr.init_size) == 0x10'0000);
  CHECK(value(page.hdr.ramdisk_image) == plan->initrd_address);
  CHECK(value(page.hdr.ramdisk_size) == initrd.size());
  CHECK(value(page.hdr.setup_data) == x86::kSetupDataAddress);
  CHECK(value(page.hdr.code32_start) == 0x100'0000);
}

TEST_CASE("the writes of a plan are sorted and do not overlap, also after the plan was moved") {
  const Bytes file = make_elf({{0x100'0000, 64, 64, PF_X}, {0x120'0000, 16, 8192, PF_R}});
  auto made = ramet::plan_load({.kernel = kernel(file), .memory_bytes = 64 * kMiB});
  REQUIRE(made.ok());
  const ramet::LoadPlan plan = *std::move(made);
  uint64_t end = 0;
  for (const ramet::GuestWrite& write : plan.writes) {
    CHECK(write.address >= end);
    end = write.address + write.bytes.size();
  }
  CHECK(zero_page(plan).hdr.boot_flag == 0xAA55);
  CHECK(plan.kernel_end == 0x120'2000);
  CHECK(plan.entry.rip == 0x100'0000);
}

TEST_CASE("without initrd and seed the zero page names none") {
  const auto plan = ramet::plan_load({.kernel = kernel(make_bzimage()), .memory_bytes = 64 * kMiB});
  REQUIRE(plan.ok());
  const boot_params page = zero_page(*plan);
  CHECK(plan->initrd_address == 0);
  CHECK(value(page.hdr.ramdisk_image) == 0);
  CHECK(value(page.hdr.ramdisk_size) == 0);
  CHECK(value(page.hdr.setup_data) == 0);
}

TEST_CASE("a relocatable kernel is aligned up, another one stays where it prefers") {
  Bytes file = make_bzimage();
  put<uint64_t>(file, 0x258, 0x100'1000);
  CHECK(ramet::plan_load({.kernel = kernel(file), .memory_bytes = 64 * kMiB})->kernel_address ==
        0x120'0000);
  put<uint8_t>(file, 0x234, 0);
  CHECK(ramet::plan_load({.kernel = kernel(file), .memory_bytes = 64 * kMiB})->kernel_address ==
        0x100'1000);
}

TEST_CASE("an initrd stays below the kernel's initrd_addr_max and below 3 GiB") {
  Bytes file = make_bzimage();
  const Bytes initrd = to_bytes(make_cpio());
  ramet::LoadRequest request{.kernel = kernel(file), .memory_bytes = 8192 * kMiB};
  request.initrd = initrd;
  CHECK(ramet::plan_load(request)->initrd_address == 0x7FFF'F000);
  put<uint32_t>(file, 0x22C, 0xFFFF'FFFF);
  request.kernel = kernel(file);
  CHECK(ramet::plan_load(request)->initrd_address == x86::kLowMemoryEnd - 4096);
}

TEST_CASE("a kernel that does not fit the memory is told with its needs") {
  Bytes file = make_bzimage();
  put<uint32_t>(file, 0x260, 0x400'0000);
  CHECK(refused({.kernel = kernel(file), .memory_bytes = 64 * kMiB}, kExhausted) ==
        "the kernel does not fit: it needs 67108864 bytes from 0x1000000 on, and the memory below "
        "4 GiB ends at 0x4000000");
  const Bytes elf = make_elf({{0xD000'0000, 64, 64, PF_X}});
  CHECK(refused({.kernel = kernel(elf), .memory_bytes = 8192 * kMiB}, kExhausted)
            .find("ends at 0xc0000000") != std::string::npos);
}

TEST_CASE("a kernel below 1 MiB or at the end of the address space is refused") {
  Bytes file = make_bzimage();
  put<uint64_t>(file, 0x258, 0);
  CHECK(refused({.kernel = kernel(file), .memory_bytes = 64 * kMiB}, kInvalid)
            .find("below 0x100000") != std::string::npos);
  put<uint64_t>(file, 0x258, ~uint64_t{0});
  CHECK(refused({.kernel = kernel(file), .memory_bytes = 64 * kMiB}, kInvalid)
            .find("0xffffffffffffffff") != std::string::npos);
  const Bytes elf = make_elf({{0xF'F000, 64, 64, PF_X}});
  CHECK(!ramet::plan_load({.kernel = kernel(elf), .memory_bytes = 64 * kMiB}).ok());
}

TEST_CASE("an initrd too large for the memory, or cut short, is refused") {
  Bytes initrd = to_bytes("\x1F\x8B");
  initrd.resize(60 * kMiB);
  ramet::LoadRequest request{.kernel = kernel(make_bzimage()), .memory_bytes = 64 * kMiB};
  request.initrd = initrd;
  CHECK(refused(request, kExhausted).find("initrd of 62914560 bytes does not fit") == 0);
  const Bytes cut = to_bytes(make_cpio().substr(0, 50));
  request.initrd = cut;
  CHECK(refused(request, absl::StatusCode::kDataLoss).find("the initrd is cut short") == 0);
}

TEST_CASE("a command line is held to the kernel's own limit and to the room there is") {
  Bytes file = make_bzimage();
  put<uint32_t>(file, 0x238, 8);
  CHECK(refused({.kernel = kernel(file), .memory_bytes = 64 * kMiB, .command_line = "123456789"},
                kInvalid) == "command line of 9 bytes is longer than the kernel's limit of 8");
  put<uint32_t>(file, 0x238, 0xFFFF'FFFF);
  const std::string huge(x86::kCommandLineRoom, 'x');
  CHECK(refused({.kernel = kernel(file), .memory_bytes = 64 * kMiB, .command_line = huge}, kInvalid)
            .find("limit of 65535") != std::string::npos);
  CHECK(!ramet::plan_load({.kernel = kernel(make_elf()),
                           .memory_bytes = 64 * kMiB,
                           .command_line = huge.substr(0, 2048)})
             .ok());
}

TEST_CASE("a memory size the machine cannot have is refused before anything else") {
  CHECK(refused({.kernel = kernel(make_elf()), .memory_bytes = 12345}, kInvalid)
            .find("12345 bytes of memory") == 0);
}

TEST_CASE("a request without a kernel is refused") {
  CHECK(!ramet::plan_load({.memory_bytes = 64 * kMiB}).ok());
  CHECK(!ramet::plan_load({.kernel = ramet::ElfImage{}, .memory_bytes = 64 * kMiB}).ok());
}
