#include "lib/helper/program/outbox.h"

#include <utility>

#include "vmm/base/socket.h"

namespace ramet::helper {

void Outbox::console(std::string_view text) {
  std::unique_lock lock(mutex_);
  has_room_.wait(lock, [&] { return closed_ || console_.size() + text.size() <= kMaxConsole; });
  if (closed_) {
    return;
  }
  console_ += text;
  waker_.wake();
}

void Outbox::log(LogLevel level, std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (lines_.size() < kMaxLines) {
    lines_.push_back({level, std::string(text)});
    waker_.wake();
  }
}

void Outbox::ended(Ended ended) {
  const std::lock_guard lock(mutex_);
  ended_ = std::move(ended);
  waker_.wake();
}

// The end last: what the guest printed before it is there when the embedder asks why.
std::optional<Event> Outbox::next_locked() const {
  if (!console_.empty()) {
    return ConsoleBytes{console_.substr(0, kMaxStreamPart)};
  }
  if (!lines_.empty()) {
    return lines_.front();
  }
  if (ended_) {
    return *ended_;
  }
  return std::nullopt;
}

void Outbox::drop_first_locked() {
  if (!console_.empty()) {
    console_.erase(0, kMaxStreamPart);
    has_room_.notify_all();
  } else if (!lines_.empty()) {
    lines_.pop_front();
  } else {
    ended_.reset();
  }
}

void Outbox::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  has_room_.notify_all();
}

void Outbox::flush() {
  const std::lock_guard lock(mutex_);
  while (const auto event = next_locked()) {
    if (!send_message(socket_, encode(*event), {}, Blocking::kDontWait).ok()) {
      return;  // epoll tells when there is room
    }
    drop_first_locked();
  }
}

}  // namespace ramet::helper
