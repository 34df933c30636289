// The helper program as bytes: libramet carries it, because a library has no path of its own.
//
// Thread rule: call from anywhere.
#ifndef RAMET_LIB_HELPER_EMBEDDED_H_
#define RAMET_LIB_HELPER_EMBEDDED_H_

#include <cstddef>
#include <span>

namespace ramet::helper {

// An x86-64 ELF executable, static but in builds with sanitizers; lives as long as the library.
std::span<const std::byte> helper_program();

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_EMBEDDED_H_
