#include "devices/legacy/vmgenid.h"

#include "vmm/base/syscall.h"

namespace ramet {

StatusOr<GenerationId> new_generation_id() {
  GenerationId id = {};
  RAMET_RETURN_IF_ERROR(sys::getrandom(id));
  return id;
}

Status VmGenId::write(const GenerationId& id) const {
  return annotate(memory_->write(address_, id), "write the VM generation id");
}

Status VmGenId::change(const GenerationId& id) const {
  RAMET_RETURN_IF_ERROR(write(id));
  event_line_->trigger();
  return Status();
}

}  // namespace ramet
