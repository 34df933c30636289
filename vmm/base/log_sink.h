// LogSink: where the library's few log lines go. The library owns no stderr: the embedder hands in
// a function.
//
// Thread rule: the function is called from any Ramet thread, so it must be thread-safe.
// Invariant: a guest cannot flood it: rate_limited_log() lets through kLogBurst lines a second and
// counts the rest.
#ifndef RAMET_VMM_BASE_LOG_SINK_H_
#define RAMET_VMM_BASE_LOG_SINK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

namespace ramet {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

class LogSink {
 public:
  using Function = std::function<void(LogLevel, std::string_view)>;
  static constexpr uint32_t kLogBurst = 10;

  LogSink() = default;
  explicit LogSink(Function function) : function_(std::move(function)) {}

  void log(LogLevel level, std::string_view line) const;
  // For lines that a guest can cause.
  void rate_limited_log(LogLevel level, std::string_view line);
  // Lines that the limit swallowed since the sink was made.
  uint64_t suppressed() const { return suppressed_.load(); }

 private:
  const Function function_;
  std::atomic<uint64_t> window_second_{0};
  std::atomic<uint32_t> in_window_{0};
  std::atomic<uint64_t> suppressed_{0};
};

}  // namespace ramet

#endif  // RAMET_VMM_BASE_LOG_SINK_H_
