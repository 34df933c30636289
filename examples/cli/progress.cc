#include "examples/cli/progress.h"

#include <algorithm>

#include <absl/strings/str_format.h>

#include "examples/cli/output.h"
#include "examples/cli/table.h"
#include "examples/cli/units.h"

namespace cli {
namespace {

constexpr size_t kBarWidth = 24;
constexpr std::chrono::milliseconds kRedraw{200};
// To the line's beginning, and erase it: ECMA-48 EL.
constexpr std::string_view kEraseLine = "\r\033[K";

}  // namespace

std::string progress_line(const std::string& step, uint32_t done, uint32_t total,
                          std::chrono::nanoseconds elapsed) {
  const size_t full = total == 0 ? 0 : kBarWidth * std::min(done, total) / total;
  return absl::StrFormat("[%s%s] %d/%d  %s  %.1f s", std::string(full, '#'),
                         std::string(kBarWidth - full, '-'), done, total, printable(step),
                         std::chrono::duration<double>(elapsed).count());
}

Progress::Progress(Style style) : style_(style) {
  if (style_ == Style::kBar) {
    drawer_ = std::thread([this] { redraw_until_stopped(); });
  }
}

Progress::~Progress() {
  clear();
  if (drawer_.joinable()) {
    drawer_.join();
  }
}

void Progress::redraw_until_stopped() {
  std::unique_lock lock(mutex_);
  while (!stopped_) {
    if (!name_.empty()) {
      print_err(std::string(kEraseLine) +
                progress_line(name_, done_, total_, Clock::now() - step_began_));
    }
    wake_.wait_for(lock, kRedraw);
  }
}

void Progress::end_step() {
  if (name_.empty()) {
    return;
  }
  steps_.push_back({.name = name_, .took = Clock::now() - step_began_});
  name_.clear();
}

void Progress::step(const sandbox::BuildProgress& progress) {
  const std::lock_guard lock(mutex_);
  end_step();
  name_ = progress.step;
  done_ = progress.done;
  total_ = progress.total;
  step_began_ = Clock::now();
  if (style_ == Style::kLines && !stopped_) {
    print_err(absl::StrFormat("[%d/%d] %s\n", done_ + 1, total_, printable(name_)));
  }
  wake_.notify_all();
}

std::vector<Progress::Step> Progress::finish() {
  {
    const std::lock_guard lock(mutex_);
    end_step();
  }
  clear();
  return steps_;
}

void Progress::clear() {
  const std::lock_guard lock(mutex_);
  if (stopped_) {
    return;
  }
  stopped_ = true;
  if (style_ == Style::kBar) {
    print_err(kEraseLine);
  }
  wake_.notify_all();
}

}  // namespace cli
