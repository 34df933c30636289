// ConsoleTap: takes a guest's console, keeps its end for error messages and, when asked, shows it
// on standard error.
//
// Thread rule: take() from any thread, and it never waits for the terminal; the rest on one thread.
// Invariant: at most kKept bytes are kept and kQueued wait to be shown; control characters other
// than newline and tab are never shown, for the guest must not steer the terminal.
#ifndef RAMET_EXAMPLES_CLI_CONSOLE_H_
#define RAMET_EXAMPLES_CLI_CONSOLE_H_

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace cli {

class ConsoleTap {
 public:
  static constexpr size_t kKept = size_t{16} << 10;
  static constexpr size_t kQueued = size_t{1} << 20;

  explicit ConsoleTap(bool show);
  // Shows what still waits.
  ~ConsoleTap();
  ConsoleTap(const ConsoleTap&) = delete;
  ConsoleTap& operator=(const ConsoleTap&) = delete;

  void take(std::string_view text);
  // The last `lines` lines, made printable.
  std::string tail(size_t lines) const;

 private:
  void show_until_stopped();

  const bool show_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable wake_;
  std::string kept_;
  std::string queued_;
  size_t dropped_ = 0;
  bool stopped_ = false;
  std::thread shower_;
};

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_CONSOLE_H_
