// The kernel command line as bytes.
//
// Thread rule: pure functions.
// Invariant: the result ends in exactly one NUL and holds no other.
#ifndef RAMET_VMM_LOADER_CMDLINE_H_
#define RAMET_VMM_LOADER_CMDLINE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

// x86 Linux's COMMAND_LINE_SIZE less the NUL: the limit of a kernel that states none (ELF).
inline constexpr uint32_t kDefaultCommandLineLimit = 2047;

// `command_line` with its terminating NUL. InvalidArgument where it is longer than `limit` bytes or
// holds a NUL or a line feed.
StatusOr<std::vector<std::byte>> encode_command_line(std::string_view command_line, uint32_t limit);

}  // namespace ramet

#endif  // RAMET_VMM_LOADER_CMDLINE_H_
