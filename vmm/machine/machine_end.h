// MachineEnd: why a machine stopped for good, as plain data.
//
// Thread rule: plain values.
#ifndef RAMET_VMM_MACHINE_MACHINE_END_H_
#define RAMET_VMM_MACHINE_MACHINE_END_H_

#include <cstdint>
#include <optional>
#include <string>

namespace ramet {

enum class EndReason : uint8_t {
  kPowerOff,     // the guest asked for it
  kReset,        // the guest asked for a reset; a sandbox is not rebooted
  kTripleFault,  // the guest faulted while handling a double fault
  kGuestFault,   // the guest did something that KVM or the machine cannot go on from
  kHostError,    // a call of the host failed
  kStopped,      // stop() was called
  kRefusedCall,  // a thread that worked for it was refused a system call: it is not ours any more
  kLimit,        // it used more than it may
};

// What can be limited; limit.h has the units.
enum class LimitKind : uint8_t {
  kWallClock,
  kCpuTime,
  kCpuRate,
  kExitRate,
  kIrqRate,
  kPrivateMemory,
  kDiskOverlay,
  kExecOutput,
  kConnections,
  kDiskRate,
};

struct LimitHit {
  LimitKind which = LimitKind::kWallClock;
  uint64_t allowed = 0;
  uint64_t used = 0;
  friend bool operator==(const LimitHit&, const LimitHit&) = default;
};

struct MachineEnd {
  EndReason reason = EndReason::kStopped;
  std::string detail = {};
  std::optional<LimitHit> limit = {};  // with kLimit
};

}  // namespace ramet

#endif  // RAMET_VMM_MACHINE_MACHINE_END_H_
