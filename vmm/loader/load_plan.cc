#include "vmm/loader/load_plan.h"

#include <algorithm>
#include <string>

#include <absl/strings/str_format.h>

#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/checked.h"
#include "vmm/loader/cmdline.h"
#include "vmm/loader/initrd.h"

namespace ramet {
namespace {

// An ELF kernel states no limit; this is the one in the setup header of every 64-bit bzImage.
constexpr uint32_t kDefaultInitrdAddrMax = 0x7FFF'FFFF;

// What differs between the kinds of kernel.
struct KernelPlacement {
  uint64_t address = 0;
  uint64_t end = 0;
  uint64_t entry = 0;
  uint32_t command_line_limit = kDefaultCommandLineLimit;
  uint32_t initrd_addr_max = kDefaultInitrdAddrMax;
  std::span<const std::byte> setup_header;
  std::vector<GuestWrite> writes;
};

std::string first_bytes(std::span<const std::byte> file) {
  constexpr size_t kShown = 8;
  std::string text;
  for (const std::byte byte : file.first(std::min(file.size(), kShown))) {
    text += absl::StrFormat(" %02x", std::to_integer<unsigned>(byte));
  }
  return text;
}

// [address, address + size) must lie in the low RAM above 1 MiB.
Status check_kernel_range(uint64_t address, uint64_t size, const x86::RamRanges& ram) {
  if (address < x86::kKernelMinAddress) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the kernel wants %u bytes at 0x%x; below 0x%x there is no room for it",
                        size, address, x86::kKernelMinAddress));
  }
  const auto end = checked_add(address, size);
  if (!end || *end > ram.low_bytes) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "the kernel does not fit: it needs %u bytes from 0x%x on, and the memory below 4 GiB ends "
        "at 0x%x",
        size, address, ram.low_bytes));
  }
  return {};
}

StatusOr<KernelPlacement> place(const BzImage& image, const x86::RamRanges& ram) {
  // boot.rst, init_size: a relocatable kernel runs at its load address rounded up to
  // kernel_alignment and needs init_size bytes from there; another one only at pref_address.
  const auto aligned = checked_align_up<uint64_t>(image.pref_address, image.kernel_alignment);
  const auto address = image.relocatable ? aligned : image.pref_address;
  const uint64_t size = std::max<uint64_t>(image.init_size, image.payload.size());
  if (!address) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the kernel wants to be at 0x%x, aligned to 0x%x", image.pref_address,
                        image.kernel_alignment));
  }
  RAMET_RETURN_IF_ERROR(check_kernel_range(*address, size, ram));
  KernelPlacement placement;
  placement.address = *address;
  placement.end = *address + size;
  placement.entry = *address + kBzImageEntryOffset;
  placement.command_line_limit = image.cmdline_size;
  placement.initrd_addr_max = image.initrd_addr_max;
  placement.setup_header = image.setup_header;
  placement.writes.push_back({*address, image.payload, "kernel"});
  return placement;
}

StatusOr<KernelPlacement> place(const ElfImage& image, const x86::RamRanges& ram) {
  if (image.segments.empty()) {
    return absl::InvalidArgumentError("the ELF kernel has nothing to load");
  }
  KernelPlacement placement;
  placement.address = image.segments.front().address;
  placement.entry = image.entry;
  for (const ElfSegment& segment : image.segments) {
    RAMET_RETURN_IF_ERROR(check_kernel_range(segment.address, segment.memory_size, ram));
    placement.end = std::max(placement.end, segment.address + segment.memory_size);
    if (!segment.bytes.empty()) {
      placement.writes.push_back({segment.address, segment.bytes, "kernel"});
    }
  }
  return placement;
}

// Keeps `bytes` in the plan and writes them at `address`.
void add_owned(LoadPlan& plan, uint64_t address, std::vector<std::byte> bytes,
               std::string_view what) {
  plan.owned.push_back(std::move(bytes));
  plan.writes.push_back({address, plan.owned.back(), what});
}

}  // namespace

StatusOr<KernelImage> parse_kernel(std::span<const std::byte> file, std::string_view name) {
  const auto as_image = [&](auto parsed) -> StatusOr<KernelImage> {
    if (!parsed.ok()) {
      return annotate(parsed.status(), "kernel %s", std::string(name));
    }
    return KernelImage(*std::move(parsed));
  };
  if (looks_like_elf(file)) {
    return as_image(parse_elf(file));
  }
  if (looks_like_bzimage(file)) {
    return as_image(parse_bzimage(file));
  }
  if (file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is not a Linux kernel: it is empty", std::string(name)));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("%s is not a Linux kernel: no \"HdrS\" at 0x202 and no ELF magic; its first "
                      "bytes of %u are%s",
                      std::string(name), file.size(), first_bytes(file)));
}

StatusOr<LoadPlan> plan_load(const LoadRequest& request) {
  RAMET_ASSIGN_OR_RETURN(const x86::RamRanges ram, x86::split_ram(request.memory_bytes));
  RAMET_ASSIGN_OR_RETURN(
      KernelPlacement kernel,
      std::visit([&](const auto& image) { return place(image, ram); }, request.kernel));
  LoadPlan plan;
  plan.kernel_address = kernel.address;
  plan.kernel_end = kernel.end;
  plan.writes = std::move(kernel.writes);

  constexpr auto kRoom = static_cast<uint32_t>(x86::kCommandLineRoom);
  RAMET_ASSIGN_OR_RETURN(
      std::vector<std::byte> command_line,
      encode_command_line(request.command_line, std::min(kernel.command_line_limit, kRoom - 1)));
  add_owned(plan, x86::kCommandLineAddress, std::move(command_line), "command line");

  if (!request.initrd.empty()) {
    RAMET_RETURN_IF_ERROR(check_initrd(request.initrd));
    const uint64_t ceiling = std::min(ram.low_bytes, uint64_t{kernel.initrd_addr_max} + 1);
    RAMET_ASSIGN_OR_RETURN(plan.initrd_address,
                           place_initrd(request.initrd.size(), kernel.end, ceiling));
    plan.writes.push_back({plan.initrd_address, request.initrd, "initrd"});
  }
  x86::ZeroPageConfig zero_page;
  zero_page.setup_header = kernel.setup_header;
  zero_page.memory_bytes = request.memory_bytes;
  zero_page.kernel_address = kernel.address;
  zero_page.initrd_address = plan.initrd_address;
  zero_page.initrd_size = request.initrd.size();
  zero_page.rsdp_address = request.rsdp_address;
  if (!request.rng_seed.empty()) {
    RAMET_ASSIGN_OR_RETURN(std::vector<std::byte> node, x86::build_rng_seed_node(request.rng_seed));
    add_owned(plan, x86::kSetupDataAddress, std::move(node), "boot seed");
    zero_page.setup_data_address = x86::kSetupDataAddress;
  }
  RAMET_ASSIGN_OR_RETURN(std::vector<std::byte> page, x86::build_zero_page(zero_page));
  add_owned(plan, x86::kZeroPageAddress, std::move(page), "zero page");
  add_owned(plan, x86::kBootGdtAddress, x86::build_boot_gdt(), "boot GDT");
  add_owned(plan, x86::kBootPageTablesAddress, x86::build_boot_page_tables(), "boot page tables");

  plan.entry = x86::build_entry_state(kernel.entry);
  std::ranges::sort(plan.writes, {}, &GuestWrite::address);
  return plan;
}

}  // namespace ramet
