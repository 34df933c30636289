#include "lib/core/console.h"

#include <algorithm>
#include <vector>

#include <absl/strings/ascii.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

namespace ramet {

Console::~Console() {
  const std::lock_guard lock(mutex_);
  pass_on();
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
    listener_(line_);
  }
  kept_ += line_;
  line_.clear();
  if (kept_.size() > 2 * kKeptBytes) {
    kept_.erase(0, kept_.size() - kKeptBytes);
  }
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
