#include "vmm/machine/exit_handler.h"

#include <absl/strings/str_format.h>

namespace ramet {

// An access that no device answers reads as ones and writes to nowhere, as on a bus without a
// device.
void ExitHandler::handle_pio(const VcpuExit& exit) const {
  for (size_t offset = 0; offset + exit.size <= exit.data.size() && exit.size != 0;
       offset += exit.size) {
    const auto unit = exit.data.subspan(offset, exit.size);
    if (exit.is_write) {
      pio_.write(exit.address, unit);
    } else {
      pio_.read(exit.address, unit);
    }
  }
}

void ExitHandler::handle_mmio(const VcpuExit& exit) const {
  if (exit.is_write) {
    mmio_.write(exit.address, exit.data);
  } else {
    mmio_.read(exit.address, exit.data);
  }
}

std::optional<MachineEnd> ExitHandler::handle(const VcpuExit& exit) const {
  switch (exit.kind) {
    case ExitKind::kInterrupted:
      return std::nullopt;
    case ExitKind::kPio:
      handle_pio(exit);
      return std::nullopt;
    case ExitKind::kMmio:
      handle_mmio(exit);
      return std::nullopt;
    case ExitKind::kHalt:
      return MachineEnd{EndReason::kGuestFault, "the guest halted where nothing can wake it"};
    case ExitKind::kShutdown:
      return MachineEnd{EndReason::kTripleFault, "triple fault"};
    case ExitKind::kSystemReset:
      return MachineEnd{EndReason::kReset, "the guest asked for a reset"};
    case ExitKind::kSystemPowerOff:
      return MachineEnd{EndReason::kPowerOff, "the guest powered off"};
    case ExitKind::kInternalError:
    case ExitKind::kOther:
      break;
  }
  return MachineEnd{EndReason::kGuestFault, exit.detail};
}

}  // namespace ramet
