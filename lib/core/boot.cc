#include "lib/core/boot.h"

#include <array>

#include <absl/strings/str_format.h>

#include "lib/instance/reasons.h"
#include "vmm/arch/x86_64/acpi.h"
#include "vmm/base/syscall.h"
#include "vmm/loader/initrd.h"
#include "vmm/loader/load_plan.h"

namespace ramet {
namespace {

constexpr size_t kSeedBytes = 64;

StatusOr<LoadPlan> make_plan(const BootSpec& spec, std::span<const std::byte> seed) {
  RAMET_ASSIGN_OR_RETURN(auto kernel, parse_kernel(spec.kernel, spec.kernel_name));
  RAMET_RETURN_IF_ERROR(check_initrd(spec.initrd));
  return plan_load({.kernel = std::move(kernel),
                    .memory_bytes = spec.memory_bytes,
                    .initrd = spec.initrd,
                    .command_line = spec.command_line,
                    .rng_seed = seed});
}

Status write_plan(const LoadPlan& plan, uint32_t vcpus, const GuestMemory& memory) {
  for (const GuestWrite& write : plan.writes) {
    RAMET_RETURN_IF_ERROR(
        annotate(memory.write(GuestAddr{write.address}, write.bytes), std::string(write.what)));
  }
  RAMET_ASSIGN_OR_RETURN(const auto acpi, x86::build_acpi({.vcpus = vcpus}));
  return annotate(memory.write(GuestAddr{acpi.address}, acpi.bytes), "ACPI tables");
}

}  // namespace

StatusOr<std::vector<MemoryRegion>> memory_regions(uint64_t memory_bytes) {
  RAMET_ASSIGN_OR_RETURN(const x86::RamRanges ranges, x86::split_ram(memory_bytes));
  std::vector<MemoryRegion> regions = {
      {.start = GuestAddr{0}, .size = ranges.low_bytes, .file_offset = 0}};
  if (ranges.high_bytes != 0) {
    regions.push_back({.start = GuestAddr{x86::kHighMemoryStart},
                       .size = ranges.high_bytes,
                       .file_offset = ranges.low_bytes});
  }
  return regions;
}

StatusOr<BootedInstance> prepare_boot(Engine* engine, BootSpec spec) {
  std::array<std::byte, kSeedBytes> seed;
  RAMET_RETURN_IF_ERROR(sys::getrandom(seed));
  auto plan = make_plan(spec, seed);
  if (!plan.ok()) {
    return with_reason(plan.status(), reason::kBadKernel);
  }
  RAMET_ASSIGN_OR_RETURN(const auto regions, memory_regions(spec.memory_bytes));
  BootedInstance booted;
  RAMET_ASSIGN_OR_RETURN(booted.memory, create_memfd("ramet-guest", spec.memory_bytes));
  RAMET_ASSIGN_OR_RETURN(auto memory,
                         GuestMemory::create(booted.memory.get(), regions, MapMode::kShared));
  RAMET_RETURN_IF_ERROR(write_plan(*plan, spec.vcpus, *memory));
  RAMET_ASSIGN_OR_RETURN(booted.instance,
                         Instance::create(engine->instance_host(), std::move(memory), spec.vcpus,
                                          std::move(spec.instance)));
  RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
  RAMET_RETURN_IF_ERROR(booted.instance->write_generation(generation));
  RAMET_RETURN_IF_ERROR(booted.instance->machine().set_entry(plan->entry));
  return booted;
}

}  // namespace ramet
