// Outbox: what other threads of a helper process have to say to the embedder, until the first one
// sends it.
//
// Thread rule: console(), log() and ended() from any thread but the first; flush() on the first;
// close() when it is not called any more.
// Invariant: bounded: console() waits while kMaxConsole bytes have not been sent, log() drops
// beyond kMaxLines.
#ifndef RAMET_LIB_HELPER_PROGRAM_OUTBOX_H_
#define RAMET_LIB_HELPER_PROGRAM_OUTBOX_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "lib/helper/program/waker.h"
#include "lib/helper/wire/messages.h"

namespace ramet::helper {

class Outbox {
 public:
  static constexpr size_t kMaxConsole = 256 * 1024;
  static constexpr size_t kMaxLines = 64;

  // `socket` and `waker` outlive it.
  Outbox(int socket, Waker* waker) : socket_(socket), waker_(*waker) {}

  void console(std::string_view text);
  void log(LogLevel level, std::string_view text);
  void ended(Ended ended);
  // Sends as much as the embedder takes now.
  void flush();
  // Nobody wants to hear more: console() no longer waits, and nothing is kept.
  void close();

 private:
  std::optional<Event> next_locked() const;
  void drop_first_locked();

  const int socket_;
  Waker& waker_;
  std::mutex mutex_;
  std::condition_variable has_room_;
  std::string console_;
  std::deque<LogLine> lines_;
  std::optional<Ended> ended_;
  bool closed_ = false;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_OUTBOX_H_
