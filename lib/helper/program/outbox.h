// Outbox: what happens in a helper process, told to the embedder by whoever it happens to.
//
// Thread rule: every method from any thread. None of them waits for the embedder.
// Invariant: bounded: beyond kMaxConsole bytes of console and kMaxLines of log that the embedder
// has not taken, further ones are dropped, and of the console it is told how much; of counts the
// last. In order, but that the end comes last.
#ifndef RAMET_LIB_HELPER_PROGRAM_OUTBOX_H_
#define RAMET_LIB_HELPER_PROGRAM_OUTBOX_H_

#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "lib/helper/wire/messages.h"

namespace ramet::helper {

class Outbox {
 public:
  static constexpr size_t kMaxConsole = 256 * 1024;
  static constexpr size_t kMaxLines = 64;

  // `socket` does not block, and outlives it; the process ignores SIGPIPE.
  explicit Outbox(int socket) : socket_(socket) {}

  void console(std::string_view text);
  void log(LogLevel level, std::string_view text);
  // So many calls of this process's threads have been refused.
  void refused(uint64_t count);
  void ended(Ended ended);
  // The socket has room again.
  void flush();

 private:
  std::optional<Event> next_locked() const;
  void drop_first_locked();
  void write_locked();

  const int socket_;
  std::mutex mutex_;
  bool full_ = false;  // the socket, until flush()
  std::string console_;
  size_t dropped_ = 0;  // bytes of the console that are not in it
  std::deque<LogLine> lines_;
  std::optional<RefusedCalls> refused_;
  std::optional<Ended> ended_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_OUTBOX_H_
