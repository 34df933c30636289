// TemplateData: a frozen guest: its state, its memory, its disks, and what is known of it.
//
// Thread rule: immutable once made; share freely.
// Invariant: nothing that a fork does changes it: memory is a sealed file, disks are immutable.
#ifndef RAMET_LIB_CORE_TEMPLATE_DATA_H_
#define RAMET_LIB_CORE_TEMPLATE_DATA_H_

#include <cstdint>
#include <memory>
#include <string>

#include "lib/instance/instance.h"
#include "lib/instance/instance_state.h"
#include "lib/instance/machine_source.h"
#include "vmm/memory/memory_image.h"
#include "vmm/memory/working_set.h"

namespace ramet {

// Where the root disk's image is and how to tell that it is still the same.
struct RootReference {
  std::string path;  // absolute; empty: no root disk
  uint64_t size = 0;
  uint64_t digest = 0;  // XXH3-64 of the whole file

  friend bool operator==(const RootReference&, const RootReference&) = default;
};

struct TemplateData {
  InstanceState state;
  std::shared_ptr<const MemoryImage> memory;
  Disks disks;
  RootReference root;
  WorkingSet working_set;      // empty: nobody looked
  std::string kernel_release;  // as the guest said; for people
  uint64_t created_unix_seconds = 0;

  MachineSource machine_source() const {
    return {.memory = memory->view(), .state = &state.machine, .working_set = &working_set};
  }
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_TEMPLATE_DATA_H_
