// MachineSource: what every machine of a template is made from.
//
// Thread rule: pure; any number at once.
#ifndef RAMET_LIB_INSTANCE_MACHINE_SOURCE_H_
#define RAMET_LIB_INSTANCE_MACHINE_SOURCE_H_

#include <cstdint>
#include <memory>

#include "vmm/base/status.h"
#include "vmm/machine/machine.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/working_set.h"

namespace ramet {

// Whether the pages of its template's working set are made ready in a machine.
enum class Prefetch : uint8_t { kYes, kNo };

// All of it is the caller's.
struct MachineSource {
  MemoryView memory;
  const MachineState* state = nullptr;
  const WorkingSet* working_set = nullptr;
};

// KVM's objects, memory mapped copy-on-write, registers set, vCPU threads parked: a machine as it
// stands in a shell.
StatusOr<std::unique_ptr<Machine>> make_machine(const Machine::Host& host,
                                                const MachineSource& from, Prefetch prefetch);

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_MACHINE_SOURCE_H_
