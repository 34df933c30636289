#include "vmm/base/log_sink.h"

#include "vmm/base/clock.h"

namespace ramet {

void LogSink::log(LogLevel level, std::string_view line) const {
  if (function_) {
    function_(level, line);
  }
}

void LogSink::rate_limited_log(LogLevel level, std::string_view line) {
  const uint64_t second = monotonic_ns() / 1'000'000'000;
  if (window_second_.exchange(second) != second) {
    in_window_.store(0);
  }
  if (in_window_.fetch_add(1) >= kLogBurst) {
    suppressed_.fetch_add(1);
    return;
  }
  log(level, line);
}

}  // namespace ramet
