// Boot: a fresh instance with a kernel, an initramfs and ACPI tables in its memory, ready to run.
//
// Thread rule: free functions.
#ifndef RAMET_LIB_CORE_BOOT_H_
#define RAMET_LIB_CORE_BOOT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/core/engine.h"
#include "lib/instance/instance.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

struct BootSpec {
  std::vector<std::byte> kernel;
  std::string kernel_name;  // for messages
  std::vector<std::byte> initrd;
  std::string command_line;
  uint64_t memory_bytes = 0;
  uint32_t vcpus = 1;
  InstanceOptions instance;
};

struct BootedInstance {
  UniqueFd memory;  // the memfd that the instance's RAM is mapped from, shared
  std::unique_ptr<Instance> instance;
};

// Paused at the kernel's entry. Reason bad_kernel where the kernel, the initrd or the command line
// is at fault.
StatusOr<BootedInstance> prepare_boot(Engine* engine, BootSpec spec);

// The regions of a machine with so much memory.
StatusOr<std::vector<MemoryRegion>> memory_regions(uint64_t memory_bytes);

}  // namespace ramet

#endif  // RAMET_LIB_CORE_BOOT_H_
