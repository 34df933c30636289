// Pressure: how short of memory the host is, as the kernel says.
//
// Thread rule: a HostPressure from one thread at a time; the rest are plain values.
// Invariant: what the kernel does not say is absent, never a made-up figure.
#ifndef RAMET_LIB_CORE_PRESSURE_H_
#define RAMET_LIB_CORE_PRESSURE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

struct PressureFigures {
  // Hundredths of a percent of the last ten seconds in which some, and all, tasks waited for memory
  // (Documentation/accounting/psi.rst); absent where the kernel has no PSI.
  std::optional<uint32_t> some = {};
  std::optional<uint32_t> full = {};
  // Of /proc/meminfo; 0 of 0 where it cannot be read.
  uint64_t available_bytes = 0;
  uint64_t total_bytes = 0;
};

// The two files as text; what is not in them is absent.
PressureFigures parse_pressure(std::string_view psi, std::string_view meminfo);

// Reads /proc/pressure/memory and /proc/meminfo, which it opens once.
class HostPressure {
 public:
  PressureFigures read();

 private:
  static std::string read_file(const char* path, UniqueFd* fd, bool* tried);

  UniqueFd psi_;
  UniqueFd meminfo_;
  bool tried_psi_ = false;
  bool tried_meminfo_ = false;
};

// When forks are held back; 0: not looked at.
struct PressureLimits {
  uint32_t min_available_percent = 3;  // of the host's memory
  uint32_t max_some_percent = 60;
  uint32_t max_full_percent = 20;
};

// What of the figures is beyond the limits, in words, and how long it may take to pass; nothing
// when all are within.
struct Shortage {
  std::string what;
  uint64_t retry_after_ms = 0;
};
std::optional<Shortage> shortage_of(const PressureFigures& figures, const PressureLimits& limits);

}  // namespace ramet

#endif  // RAMET_LIB_CORE_PRESSURE_H_
