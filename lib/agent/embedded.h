// The agent program as bytes: libramet carries it, because a library has no path of its own.
//
// Thread rule: call from anywhere.
#ifndef RAMET_LIB_AGENT_EMBEDDED_H_
#define RAMET_LIB_AGENT_EMBEDDED_H_

#include <cstddef>
#include <span>

namespace ramet {

// A static x86-64 ELF executable; lives as long as the library.
std::span<const std::byte> agent_binary();

}  // namespace ramet

#endif  // RAMET_LIB_AGENT_EMBEDDED_H_
