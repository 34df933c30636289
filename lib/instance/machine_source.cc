#include "lib/instance/machine_source.h"

#include <utility>

namespace ramet {

StatusOr<std::unique_ptr<Machine>> make_machine(const Machine::Host& host,
                                                const MachineSource& from, Prefetch prefetch) {
  RAMET_ASSIGN_OR_RETURN(auto memory,
                         GuestMemory::create(from.memory, from.state->regions, MapMode::kPrivate));
  RAMET_ASSIGN_OR_RETURN(auto machine, Machine::restore(host, std::move(memory), *from.state));
  // What cannot be had ahead the guest's faults get.
  if (prefetch == Prefetch::kYes) {
    machine->prefetch(*from.working_set).IgnoreError();
  }
  return machine;
}

}  // namespace ramet
