#include "lib/fork/fork_many.h"

#include <algorithm>
#include <latch>
#include <memory>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

namespace ramet {
namespace {

using Forks = std::vector<StatusOr<std::unique_ptr<SandboxMachine>>>;

Forks all_fail(size_t count, const Status& why) {
  Forks forks;
  for (size_t i = 0; i < count; ++i) {
    forks.emplace_back(why);
  }
  return forks;
}

ForkSpec nth(const ForkSpec& spec, size_t index) {
  ForkSpec one = spec;
  if (!one.hostname.empty()) {
    absl::StrAppend(&one.hostname, "-", index + 1);
  }
  return one;
}

void keep_all_or_none(Forks* forks) {
  const auto failed = std::ranges::find_if(*forks, [](const auto& each) { return !each.ok(); });
  if (failed == forks->end()) {
    return;
  }
  const auto first = failed - forks->begin();
  const Status why = absl::CancelledError(
      absl::StrFormat("fork %d of %d failed, and all were asked for or none: %s", first + 1,
                      forks->size(), std::string(failed->status().message())));
  for (auto& each : *forks) {
    if (each.ok()) {
      each = why;
    }
  }
}

}  // namespace

Forks fork_sandboxes(const std::shared_ptr<Engine>& engine, const TemplateData& from,
                     const ForkSpec& spec, const ManyForks& many) {
  if (const Status ours = engine->check_process(); !ours.ok()) {
    return all_fail(many.count, ours);
  }
  const auto threads = engine->fork_threads();
  if (!threads.ok()) {
    return all_fail(many.count, as_busy(threads.status()));
  }
  Forks forks = all_fail(many.count, absl::InternalError("a fork that nobody made"));
  // Its last count_down() may still be in it when wait() has returned.
  const auto done = std::make_shared<std::latch>(static_cast<std::ptrdiff_t>(many.count));
  for (size_t i = 0; i < many.count; ++i) {
    (*threads)->post([&, i, done] {
      forks[i] = fork_sandbox(engine, from, nth(spec, i));
      done->count_down();
    });
  }
  done->wait();
  if (many.all_or_nothing) {
    keep_all_or_none(&forks);
  }
  return forks;
}

}  // namespace ramet
