// run_tool: a program of the host, found in the usual folders, run to its end: depmod and mke2fs.
//
// Thread rule: free function, call from anywhere; blocks until the program ended.
// Invariant: the program is reaped or killed and reaped; its output is held up to the stated limit.
#ifndef RAMET_LIB_IMAGE_TOOL_H_
#define RAMET_LIB_IMAGE_TOOL_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

inline constexpr char kInheritedPath[] = "/proc/self/fd/3";

struct ToolRun {
  std::string name;     // "mke2fs"
  std::string package;  // of the distribution, for the message when it is missing: "e2fsprogs"
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // NAME=value, all of it but PATH
  int inherited_fd = -1;                 // the program finds it at kInheritedPath; -1: none
  size_t max_output_bytes = 64 * 1024;
  uint64_t timeout_ns = 120'000'000'000;
};

// The program's standard output. Unimplemented, naming the package, when it is not installed;
// FailedPrecondition with its last words when it fails, ResourceExhausted when it prints too much,
// DeadlineExceeded.
StatusOr<std::string> run_tool(const ToolRun& run);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_TOOL_H_
