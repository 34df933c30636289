#include "lib/instance/console.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <absl/strings/ascii.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

namespace ramet {

std::string dropped_notice(size_t bytes) {
  return absl::StrFormat("\n[ramet: %d bytes of the console were dropped]\n", bytes);
}

Console::~Console() {
  std::unique_lock lock(mutex_);
  pass_on();
  if (!listener_ || calls_ == nullptr) {
    return;
  }
  if (dropped_ != 0) {
    tell({});
  }
  bool gone = false;
  // What it holds is the embedder's too, and goes where the embedder's code runs.
  calls_->post([this, &gone] {
    listener_ = nullptr;
    const std::lock_guard in_job(mutex_);
    gone = true;
    // Under the mutex: the one who waits destroys this.
    listener_gone_.notify_all();
  });
  listener_gone_.wait(lock, [&] { return gone; });
}

void Console::append(std::byte byte) {
  const std::lock_guard lock(mutex_);
  line_.push_back(static_cast<char>(byte));
  if (line_.back() == '\n' || line_.size() >= kMaxLine) {
    pass_on();
  }
}

void Console::pass_on() {
  if (listener_ && !line_.empty()) {
    tell(line_);
  }
  kept_ += line_;
  line_.clear();
  if (kept_.size() > 2 * kKeptBytes) {
    kept_.erase(0, kept_.size() - kKeptBytes);
  }
}

void Console::tell(std::string text) {
  if (calls_ == nullptr) {
    listener_(text);
    return;
  }
  if (waiting_ + text.size() > kMaxWaiting) {
    dropped_ += text.size();
    return;
  }
  if (dropped_ != 0) {
    text = dropped_notice(std::exchange(dropped_, 0)) + text;
  }
  waiting_ += text.size();
  calls_->post([this, text = std::move(text)] {
    listener_(text);
    const std::lock_guard lock(mutex_);
    waiting_ -= text.size();
  });
}

std::string Console::last_lines(size_t lines) const {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text = kept_ + line_;
  }
  std::ranges::replace_if(
      text, [](char c) { return c != '\n' && !absl::ascii_isprint(static_cast<unsigned char>(c)); },
      ' ');
  std::vector<std::string> all = absl::StrSplit(text, '\n', absl::SkipWhitespace());
  if (all.size() > lines) {
    all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(lines));
  }
  return absl::StrJoin(all, " | ");
}

}  // namespace ramet
