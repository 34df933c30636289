// Machine: what the server does to the whole guest, behind an interface so that the server can be
// tested on a host that keeps its clock and its name.
//
// Thread rule: one thread.
#ifndef RAMET_LIB_AGENT_GUEST_MACHINE_H_
#define RAMET_LIB_AGENT_GUEST_MACHINE_H_

#include <optional>
#include <string>
#include <vector>

#include "lib/agent/wire.h"

namespace ramet::guest {

class Machine {
 public:
  virtual ~Machine() = default;
  // Empty on success: the kernel took the entropy and reseeded, clock and identity are set. Else
  // what failed.
  virtual std::string reseed(const wire::Reseed& reseed) = 0;
  // Every process but the agent; nothing when that cannot be known.
  virtual std::optional<std::vector<wire::LiveProcess>> live_processes() = 0;
  // Makes file systems quiet before a freeze.
  virtual void settle() = 0;
  // Does not return in a guest.
  virtual void power_off() = 0;
};

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_MACHINE_H_
