#include "lib/agent/embedded.h"

// embedded_agent.S
// NOLINTBEGIN(readability-identifier-naming): symbols of the assembler
extern "C" const std::byte ramet_embedded_agent_start[];
extern "C" const std::byte ramet_embedded_agent_end[];
// NOLINTEND(readability-identifier-naming)

namespace ramet {

std::span<const std::byte> agent_binary() {
  return {ramet_embedded_agent_start, ramet_embedded_agent_end};
}

}  // namespace ramet
