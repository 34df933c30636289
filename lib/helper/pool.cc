#include "lib/helper/pool.h"

#include <fcntl.h>

#include <chrono>
#include <utility>

#include <absl/strings/str_cat.h>

#include "lib/helper/embedded.h"
#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

namespace ramet::helper {
namespace {

StatusOr<UniqueFd> open_program(const std::string& path) {
  if (path.empty()) {
    return create_program_memfd("ramet-helper", helper_program());
  }
  return sys::open(path, O_RDONLY);
}

}  // namespace

StatusOr<std::unique_ptr<HelperPool>> HelperPool::create(HelperPoolOptions options) {
  RAMET_ASSIGN_OR_RETURN(auto program, open_program(options.program));
  jail::Jail* const jail = options.jail;
  std::unique_ptr<HelperPool> pool(new HelperPool(std::move(options), std::move(program)));
  RAMET_RETURN_IF_ERROR(pool->open_cgroups());
  RAMET_ASSIGN_OR_RETURN(pool->spawner_, WorkerPool::start_unconfined(jail, "ramet-spawner"));
  return pool;
}

Status HelperPool::open_cgroups() {
  if (options_.cgroup.empty()) {
    return Status();
  }
  RAMET_ASSIGN_OR_RETURN(cgroups_, jail::Cgroups::open(options_.cgroup));
  const std::string missing = cgroups_->given().missing();
  if (options_.required && !missing.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the whole enclosure of helper processes is required, and ", options_.cgroup,
                     " does not give all controllers to what is below it: ", missing,
                     ". A service manager delegates them (systemd: Delegate=cpu memory pids io), "
                     "and no process may live in the directory itself"));
  }
  // Filters of other threads forbid what it takes.
  cgroups_->on_ended([this] { spawner_->post([this] { cgroups_->sweep(); }); });
  return Status();
}

HelperPool::~HelperPool() {
  {
    const std::lock_guard lock(mutex_);
    ordered_ = 0;  // what is still queued starts nothing
  }
  drop_ready();
  if (cgroups_ != nullptr) {
    cgroups_->on_ended(nullptr);
  }
  spawner_.reset();
}

void HelperPool::order_locked(size_t count) {
  for (; ordered_ < count; ++ordered_) {
    spawner_->post([this] { start_one(); });
  }
}

StatusOr<std::unique_ptr<HelperProcess>> HelperPool::start_checked() {
  std::unique_ptr<jail::Cgroup> cgroup;
  if (cgroups_ != nullptr) {
    RAMET_ASSIGN_OR_RETURN(cgroup, cgroups_->make(kHelperThreads));
  }
  RAMET_ASSIGN_OR_RETURN(auto process, HelperProcess::start({.program = program_.get(),
                                                             .kvm = options_.kvm,
                                                             .role = options_.role,
                                                             .cgroup = std::move(cgroup)}));
  if (options_.required && !process->enclosure().complete()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the whole enclosure of helper processes is required, and this host does not "
                     "grant: ",
                     process->enclosure().missing()));
  }
  return process;
}

void HelperPool::start_one() {
  {
    const std::lock_guard lock(mutex_);
    if (ordered_ == 0) {
      return;
    }
  }
  auto process = start_checked();
  const std::lock_guard lock(mutex_);
  ordered_ -= ordered_ == 0 ? 0 : 1;
  if (process.ok()) {
    enclosure_ = (*process)->enclosure();
    ready_.push_back(*std::move(process));
  } else {
    last_failure_ = process.status();
    ++failures_;
  }
  changed_.notify_all();
}

Status HelperPool::wait_ready(std::unique_lock<std::mutex>* lock, uint64_t deadline_ns) {
  const uint64_t failures = failures_;
  ++waiting_;
  order_locked(waiting_);
  const auto done = [&] { return !ready_.empty() || failures_ != failures; };
  bool in_time = true;
  if (deadline_ns == 0) {
    changed_.wait(*lock, done);
  } else {
    in_time = changed_.wait_until(
        *lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(deadline_ns)), done);
  }
  --waiting_;
  if (!ready_.empty()) {
    return Status();
  }
  return in_time ? last_failure_
                 : absl::DeadlineExceededError("no helper process was ready at the deadline");
}

StatusOr<std::unique_ptr<HelperProcess>> HelperPool::take(uint64_t deadline_ns) {
  std::unique_ptr<HelperProcess> dead;  // goes when the lock has
  std::unique_lock lock(mutex_);
  while (true) {
    if (ready_.empty()) {
      RAMET_RETURN_IF_ERROR(wait_ready(&lock, deadline_ns));
    }
    std::unique_ptr<HelperProcess> process = std::move(ready_.front());
    ready_.pop_front();
    order_locked(waiting_ + options_.ready - std::min<size_t>(ready_.size(), options_.ready));
    if (process->alive()) {
      return process;
    }
    dead = std::move(process);
  }
}

void HelperPool::drop_ready() {
  std::deque<std::unique_ptr<HelperProcess>> dropped;  // go after the lock
  const std::lock_guard lock(mutex_);
  dropped.swap(ready_);
}

Status HelperPool::fill(uint64_t deadline_ns) {
  std::unique_lock lock(mutex_);
  while (ready_.size() < options_.ready) {
    const uint64_t failures = failures_;
    const size_t ready = ready_.size();
    order_locked(waiting_ + options_.ready - ready);
    const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
    if (!changed_.wait_until(lock, deadline,
                             [&] { return ready_.size() > ready || failures_ != failures; })) {
      return absl::DeadlineExceededError("not all helper processes were ready at the deadline");
    }
    if (failures_ != failures) {
      return last_failure_;
    }
  }
  return Status();
}

StatusOr<jail::Enclosure> HelperPool::enclosure(uint64_t deadline_ns) {
  std::unique_lock lock(mutex_);
  if (!enclosure_) {
    RAMET_RETURN_IF_ERROR(wait_ready(&lock, deadline_ns));
  }
  return *enclosure_;
}

}  // namespace ramet::helper
