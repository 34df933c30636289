// From a kernel file to the list of writes that put it, its initrd, command line and boot data into
// guest memory, and the registers to start it with.
//
// Thread rule: pure functions; a plan borrows the bytes of the kernel and the initrd it was made
// from.
// Invariant: the writes of a plan lie inside the machine's RAM and do not overlap one another; they
// count on memory being zero elsewhere (a kernel's bss).
#ifndef RAMET_VMM_LOADER_LOAD_PLAN_H_
#define RAMET_VMM_LOADER_LOAD_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "vmm/arch/x86_64/boot.h"
#include "vmm/base/status.h"
#include "vmm/loader/bzimage.h"
#include "vmm/loader/elf.h"

namespace ramet {

using KernelImage = std::variant<BzImage, ElfImage>;

// Tells the kind of kernel by its magic and parses it. `name` is what messages call the file.
StatusOr<KernelImage> parse_kernel(std::span<const std::byte> file, std::string_view name);

struct LoadRequest {
  KernelImage kernel = {};
  uint64_t memory_bytes = 0;               // as x86::split_ram takes it
  std::span<const std::byte> initrd = {};  // empty: none; else check_initrd() must accept it
  std::string_view command_line = {};
  // Entropy for SETUP_RNG_SEED, 1 to kSetupDataMaxSize - 16 bytes; empty: none is passed.
  std::span<const std::byte> rng_seed = {};
  uint64_t rsdp_address = x86::kAcpiTablesAddress;  // 0: no ACPI
};

struct GuestWrite {
  uint64_t address = 0;
  std::span<const std::byte> bytes;
  std::string_view what;  // a literal, for messages: "initrd"
};

// Move-only: `writes` also point into `owned`.
struct LoadPlan {
  LoadPlan() = default;
  LoadPlan(LoadPlan&&) = default;
  LoadPlan& operator=(LoadPlan&&) = default;
  LoadPlan(const LoadPlan&) = delete;
  LoadPlan& operator=(const LoadPlan&) = delete;

  std::vector<GuestWrite> writes;  // everything but the ACPI tables, sorted by address
  x86::EntryState entry;           // the boot processor's registers
  uint64_t kernel_address = 0;     // lowest address of the kernel
  uint64_t kernel_end = 0;         // end of the memory it needs to unpack and start
  uint64_t initrd_address = 0;     // 0: none
  std::vector<std::vector<std::byte>> owned;
};

// InvalidArgument where the request contradicts itself or the kernel; DataLoss where the initrd is
// cut short; ResourceExhausted where something does not fit the memory. Messages name sizes and
// addresses.
StatusOr<LoadPlan> plan_load(const LoadRequest& request);

}  // namespace ramet

#endif  // RAMET_VMM_LOADER_LOAD_PLAN_H_
