#include "lib/helper/program/outbox.h"

#include <utility>

#include "lib/instance/console.h"
#include "vmm/base/syscall.h"

namespace ramet::helper {

void Outbox::console(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (console_.size() + text.size() > kMaxConsole) {
    dropped_ += text.size();
    return;
  }
  if (dropped_ != 0) {
    console_ += dropped_notice(std::exchange(dropped_, 0));
  }
  console_ += text;
  write_locked();
}

void Outbox::log(LogLevel level, std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (lines_.size() < kMaxLines) {
    lines_.push_back({level, std::string(text)});
    write_locked();
  }
}

void Outbox::refused(uint64_t count) {
  const std::lock_guard lock(mutex_);
  refused_ = RefusedCalls{count};
  write_locked();
}

void Outbox::ended(Ended ended) {
  const std::lock_guard lock(mutex_);
  if (dropped_ != 0) {
    console_ += dropped_notice(std::exchange(dropped_, 0));
  }
  ended_ = std::move(ended);
  write_locked();
}

// The end last: what the guest printed before it is there when the embedder asks why.
std::optional<Event> Outbox::next_locked() const {
  if (!console_.empty()) {
    return ConsoleBytes{console_.substr(0, kMaxStreamPart)};
  }
  if (!lines_.empty()) {
    return lines_.front();
  }
  if (refused_) {
    return *refused_;
  }
  if (ended_) {
    return *ended_;
  }
  return std::nullopt;
}

void Outbox::drop_first_locked() {
  if (!console_.empty()) {
    console_.erase(0, kMaxStreamPart);
  } else if (!lines_.empty()) {
    lines_.pop_front();
  } else if (refused_) {
    refused_.reset();
  } else {
    ended_.reset();
  }
}

void Outbox::flush() {
  const std::lock_guard lock(mutex_);
  full_ = false;
  write_locked();
}

// By write(2), which every thread may call.
void Outbox::write_locked() {
  while (!full_) {
    const auto event = next_locked();
    if (!event) {
      return;
    }
    if (sys::write(socket_, encode(*event)).ok()) {
      drop_first_locked();
    } else {
      full_ = true;  // epoll tells when there is room; when the embedder has gone nothing matters
    }
  }
}

}  // namespace ramet::helper
