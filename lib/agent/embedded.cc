#include "lib/agent/embedded.h"

// embedded_agent.S
extern "C" const std::byte ramet_embedded_agent_start[];
extern "C" const std::byte ramet_embedded_agent_end[];

namespace ramet {

std::span<const std::byte> agent_binary() {
  return {ramet_embedded_agent_start, ramet_embedded_agent_end};
}

}  // namespace ramet
