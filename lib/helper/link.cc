#include "lib/helper/link.h"

#include <utility>

#include "lib/instance/reasons.h"

namespace ramet::helper {
namespace {

constexpr int kEndsWithin =
    100;  // milliseconds, from the end of a process's descriptors to its own

// The reasons that the machine of a helper can end for; what else it says is a lie.
Status checked_reason(const Status& why) {
  const std::string reason = reason_of(why);
  const bool known = reason == reason::kGuestDied || reason == reason::kCallRefused ||
                     reason == reason::kLimitReached || reason == reason::kOutOfMemory ||
                     reason.empty();
  return known ? why
               : with_reason(absl::DataLossError("a helper process ended with a reason that it "
                                                 "cannot have"),
                             reason::kGuestMisbehaved);
}

}  // namespace

HelperLink::HelperLink(Parts parts, std::function<void(std::string_view)> console)
    : parts_(std::move(parts)) {
  if (console) {
    console_ = std::make_unique<Console>(parts_.calls, std::move(console));
  }
}

void HelperLink::on_event(Event event) {
  if (const auto* text = std::get_if<ConsoleBytes>(&event)) {
    const std::lock_guard lock(console_mutex_);
    for (const char c : console_ == nullptr ? std::string() : text->text) {
      console_->append(static_cast<std::byte>(c));
    }
  } else if (const auto* line = std::get_if<LogLine>(&event)) {
    parts_.log->rate_limited_log(line->level, line->text);
  } else if (const auto* ended = std::get_if<Ended>(&event)) {
    finish(checked_reason(ended->why), &ended->metrics);
  }
}

void HelperLink::on_gone(const Status& why) {
  parts_.reaper->post([self = shared_from_this(), why] {
    // It may have closed its end and live on.
    self->parts_.home->kill_unless_ending(kEndsWithin);
    const Status end = self->parts_.home->wait_end();
    const Status said = why.ok() ? absl::UnavailableError("the helper process closed its end")
                                 : annotate(why, "the helper process spoke nonsense");
    self->finish(end.ok() ? with_reason(said, reason::kHelperDied) : end, nullptr);
  });
}

void HelperLink::finish(const Status& why, const InstanceMetrics* metrics) {
  std::function<void(const Status&)> listener;
  {
    const std::lock_guard lock(mutex_);
    if (end_) {
      return;
    }
    end_ = why;
    if (metrics != nullptr) {
      metrics_ = *metrics;
    }
    listener = std::exchange(listener_, nullptr);
  }
  // The listener first: whoever is woken by a broken stream finds the reason already there.
  if (listener) {
    listener(why);
  }
  parts_.streams->end(why);
  const std::lock_guard lock(mutex_);
  told_ = true;
  told_changed_.notify_all();
}

bool HelperLink::wait_told(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  return told_changed_.wait_for(lock, limit, [&] { return told_; });
}

void HelperLink::on_end(std::function<void(const Status&)> function) {
  std::optional<Status> end;
  {
    const std::lock_guard lock(mutex_);
    if (!end_) {
      listener_ = std::move(function);
      return;
    }
    end = end_;
  }
  function(*end);
}

void HelperLink::forget() {
  const std::lock_guard lock(mutex_);
  listener_ = nullptr;
  if (!end_) {
    end_ = absl::CancelledError("the machine was stopped");
  }
}

void HelperLink::close_console() {
  std::unique_ptr<Console> console;
  const std::lock_guard lock(console_mutex_);
  console = std::move(console_);
}

bool HelperLink::last_metrics(InstanceMetrics* metrics) const {
  const std::lock_guard lock(mutex_);
  *metrics = metrics_;
  return end_.has_value();
}

void HelperLink::note_metrics(const InstanceMetrics& metrics) {
  const std::lock_guard lock(mutex_);
  if (!end_) {
    metrics_ = metrics;
  }
}

}  // namespace ramet::helper
