// Which processes live in the guest besides the agent and the kernel's threads.
//
// Thread rule: free functions.
#ifndef RAMET_LIB_AGENT_GUEST_PROCESSES_H_
#define RAMET_LIB_AGENT_GUEST_PROCESSES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/agent/wire.h"

namespace ramet::guest {

struct ProcessStat {
  uint32_t pid = 0;
  std::string comm;
  char state = '?';
  uint32_t flags = 0;  // PF_*
  // Runs user code: no kernel thread (PF_KTHREAD), no zombie.
  bool lives() const;
};

// One /proc/PID/stat (proc(5)); the name may hold spaces and parentheses.
std::optional<ProcessStat> parse_stat(std::string_view text);
// Every living process under `proc` but `self`; nothing when `proc` cannot be listed.
std::optional<std::vector<wire::LiveProcess>> live_processes(const std::string& proc,
                                                             uint32_t self);

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_PROCESSES_H_
