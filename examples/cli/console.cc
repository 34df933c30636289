#include "examples/cli/console.h"

#include <algorithm>
#include <utility>

#include <absl/strings/str_format.h>

#include "examples/cli/output.h"
#include "examples/cli/table.h"

namespace cli {
namespace {

// Serial consoles end lines with "\r\n".
std::string shown(std::string text) {
  text.erase(std::remove(text.begin(), text.end(), '\r'), text.end());
  return printable(text, "\n\t");
}

}  // namespace

ConsoleTap::ConsoleTap(bool show) : show_(show) {
  if (show_) {
    shower_ = std::thread([this] { show_until_stopped(); });
  }
}

ConsoleTap::~ConsoleTap() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    wake_.notify_all();
  }
  if (shower_.joinable()) {
    shower_.join();
  }
}

void ConsoleTap::take(std::string_view text) {
  const std::lock_guard lock(mutex_);
  kept_ += text;
  if (kept_.size() > 2 * kKept) {
    kept_.erase(0, kept_.size() - kKept);
  }
  if (!show_) {
    return;
  }
  const size_t room = kQueued - std::min(kQueued, queued_.size());
  queued_ += text.substr(0, room);
  dropped_ += text.size() - std::min(room, text.size());
  wake_.notify_all();
}

std::string ConsoleTap::tail(size_t lines) const {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text = shown(kept_.substr(kept_.size() - std::min(kept_.size(), kKept)));
  }
  text.erase(text.find_last_not_of('\n') + 1);
  size_t from = text.size();
  for (size_t i = 0; i < lines && from != 0; ++i) {
    const size_t newline = text.rfind('\n', from - 1);
    from = newline == std::string::npos ? 0 : newline;
  }
  // `from` is the newline before the first line that counts, or the text's beginning.
  return text.substr(from < text.size() && text[from] == '\n' ? from + 1 : from);
}

void ConsoleTap::show_until_stopped() {
  std::unique_lock lock(mutex_);
  while (!stopped_ || !queued_.empty()) {
    wake_.wait(lock, [this] { return stopped_ || !queued_.empty(); });
    std::string text = shown(std::exchange(queued_, std::string()));
    if (const size_t dropped = std::exchange(dropped_, 0); dropped > 0) {
      text += absl::StrFormat("\n[%d bytes of console dropped]\n", dropped);
    }
    lock.unlock();
    print_err(text);
    lock.lock();
  }
}

}  // namespace cli
