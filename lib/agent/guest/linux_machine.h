// LinuxMachine: the guest that the agent is init of.
//
// Thread rule: one thread.
// Invariant: reseed() answers success only when both random ioctls succeeded.
#ifndef RAMET_LIB_AGENT_GUEST_LINUX_MACHINE_H_
#define RAMET_LIB_AGENT_GUEST_LINUX_MACHINE_H_

#include <string>

#include "lib/agent/guest/machine.h"
#include "vmm/base/unique_fd.h"

namespace ramet::guest {

// The generation id as 32 hexadecimal digits and a newline; rewritten in place at every reseed, so
// that a program may keep it open and compare.
inline constexpr char kStateFolder[] = "/run/ramet";
inline constexpr char kGenerationFile[] = "/run/ramet/generation";
// These two are bind-mounted over /etc/machine-id and the kernel's boot_id at boot: a new identity
// is then a write to tmpfs and touches no disk.
inline constexpr char kMachineIdFile[] = "/run/ramet/machine-id";
inline constexpr char kBootIdFile[] = "/run/ramet/boot-id";
// Executables here run in the order of their names after the kernel was reseeded and before the
// acknowledgement; the generation is their argument.
inline constexpr char kHookFolder[] = "/etc/ramet/reseed.d";
inline constexpr int kHookTimeoutMs = 5000;

class LinuxMachine final : public Machine {
 public:
  // Makes the files above with the identity that the guest booted with, and mounts them. Problems
  // are logged: an image without /etc/machine-id needs none.
  void prepare_identity();

  std::string reseed(const wire::Reseed& reseed) override;
  std::optional<std::vector<wire::LiveProcess>> live_processes() override;
  void settle() override;
  void power_off() override;

 private:
  void set_identity(const wire::Reseed& reseed, const std::string& generation) const;

  // Kept open: a reseed need not find, truncate and fill them anew.
  UniqueFd machine_id_;
  UniqueFd boot_id_;
  UniqueFd generation_;
};

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_LINUX_MACHINE_H_
