// Console: takes what the guest prints on its serial line, passes it on by lines, and keeps the end
// for error messages.
//
// Thread rule: every method from any thread; the listener is called with the lock held, so it must
// not call back. Invariant: holds at most 2 * kKeptBytes, whatever the guest prints.
#ifndef RAMET_LIB_CORE_CONSOLE_H_
#define RAMET_LIB_CORE_CONSOLE_H_

#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace ramet {

class Console {
 public:
  static constexpr size_t kKeptBytes = 8192;
  static constexpr size_t kMaxLine = 512;

  // `listener` may be empty.
  explicit Console(std::function<void(std::string_view)> listener)
      : listener_(std::move(listener)) {}
  // Passes an unfinished line on.
  ~Console();

  void append(std::byte byte);
  // The last `lines` lines, made printable, joined by " | ".
  std::string last_lines(size_t lines) const;

 private:
  void pass_on();

  const std::function<void(std::string_view)> listener_;
  mutable std::mutex mutex_;
  std::string line_;  // not yet passed on
  std::string kept_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_CONSOLE_H_
