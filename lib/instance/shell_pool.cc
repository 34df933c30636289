#include "lib/instance/shell_pool.h"

#include <chrono>
#include <utility>
#include <vector>

namespace ramet {

std::unique_ptr<Machine> ShellPool::take_locked() {
  if (ready_.empty()) {
    return nullptr;
  }
  // The latest, whose memory is the likeliest to be in a cache.
  std::unique_ptr<Machine> shell = std::move(ready_.back());
  ready_.pop_back();
  shells_.give_places(1);
  return shell;
}

std::unique_ptr<Machine> ShellPool::take() {
  const std::lock_guard lock(mutex_);
  return take_locked();
}

std::unique_ptr<Machine> ShellPool::wait(uint64_t deadline_ns) {
  std::unique_lock lock(mutex_);
  if (ready_.empty()) {
    start_making();
  }
  const auto done = [&] { return !ready_.empty() || !making_; };
  if (deadline_ns == 0) {
    changed_.wait(lock, done);
  } else {
    const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
    changed_.wait_until(lock, deadline, done);
  }
  return take_locked();
}

void ShellPool::refill() {
  const std::lock_guard lock(mutex_);
  start_making();
}

void ShellPool::start_making() {
  const Shells::Parts& parts = shells_.parts();
  if (making_ || ready_.size() >= parts.per_template || !shells_.take_place()) {
    return;
  }
  making_ = true;
  parts.maker->post([weak = weak_from_this(), shells = &shells_] {
    if (const auto self = weak.lock()) {
      self->make();
    } else {
      shells->give_places(1);
    }
  });
}

void ShellPool::make() {
  const Shells::Parts& parts = shells_.parts();
  StatusOr<std::unique_ptr<Machine>> made = absl::ResourceExhaustedError("the host is short");
  if (!parts.host_is_short()) {
    made = make_one_();
  }
  const std::lock_guard lock(mutex_);
  making_ = false;
  if (made.ok()) {
    ready_.push_back(*std::move(made));
    start_making();
  } else {
    // A fork that wants a machine finds out why there is none; the next one asks again.
    shells_.give_places(1);
  }
  changed_.notify_all();
}

size_t ShellPool::drop() {
  std::vector<std::unique_ptr<Machine>> dropped;
  {
    const std::lock_guard lock(mutex_);
    dropped.swap(ready_);
  }
  shells_.give_places(dropped.size());
  for (std::unique_ptr<Machine>& shell : dropped) {
    // std::function wants something that can be copied.
    shells_.parts().reaper->post(
        [machine = std::shared_ptr<Machine>(std::move(shell))]() mutable { machine.reset(); });
  }
  return dropped.size();
}

size_t ShellPool::ready() const {
  const std::lock_guard lock(mutex_);
  return ready_.size();
}

}  // namespace ramet
