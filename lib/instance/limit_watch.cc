#include "lib/instance/limit_watch.h"

#include <chrono>
#include <limits>

#include <absl/strings/str_cat.h>

namespace ramet {
namespace {

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

}  // namespace

LimitWatch::~LimitWatch() {
  std::vector<std::unique_ptr<jail::JailedThread>> ending;
  {
    const std::lock_guard lock(mutex_);
    ++generation_;
    changed_.notify_all();
    ending.swap(threads_);
  }
  for (const auto& thread : ending) {
    thread->join();
  }
}

Status LimitWatch::start_thread() {
  if (jail_ == nullptr) {
    return Status();
  }
  auto thread =
      jail_->run(jail::ThreadKind::kWatch,
                 [this, mine = ++generation_](jail::TenantSlot& slot) { body(&slot, mine); });
  RAMET_RETURN_IF_ERROR(annotate(thread.status(), "start the thread that watches limits"));
  threads_.push_back(*std::move(thread));
  return Status();
}

Status LimitWatch::open_pagemap_locked() {
  if (pagemap_ == nullptr) {
    RAMET_ASSIGN_OR_RETURN(pagemap_, Pagemap::open());
  }
  return Status();
}

Status LimitWatch::open_pagemap() {
  const std::lock_guard lock(mutex_);
  return open_pagemap_locked();
}

StatusOr<const Pagemap*> LimitWatch::pagemap() {
  const std::lock_guard lock(mutex_);
  RAMET_RETURN_IF_ERROR(open_pagemap_locked());
  return pagemap_.get();
}

Status LimitWatch::start() {
  const std::lock_guard lock(mutex_);
  return threads_.empty() ? start_thread() : Status();
}

StatusOr<uint64_t> LimitWatch::add(WatchedMachine* machine, const InstanceLimits& limits,
                                   uint32_t vcpus) {
  auto entry = std::make_shared<Entry>(
      Entry{.machine = machine, .tracker = LimitTracker(limits, vcpus, clock_())});
  {
    const std::lock_guard lock(mutex_);
    if (limits.private_bytes != 0) {
      RAMET_RETURN_IF_ERROR(open_pagemap_locked());
    }
    if (threads_.empty()) {
      RAMET_RETURN_IF_ERROR(start_thread());
    }
  }
  // The first look is here: a host that does not give the figures is found out now.
  RAMET_ASSIGN_OR_RETURN(const LimitTracker::Sample first, sample(entry.get()));
  const LimitTracker::Verdict verdict = entry->tracker.judge(first);
  const std::lock_guard lock(mutex_);
  const uint64_t id = next_id_++;
  entries_.emplace(id, entry);
  schedule(id, entry.get(), verdict.hit ? clock_() : verdict.next_ns);
  return id;
}

void LimitWatch::remove(uint64_t id) {
  std::unique_lock lock(mutex_);
  const auto found = entries_.find(id);
  if (found == entries_.end()) {
    return;
  }
  const std::shared_ptr<Entry> entry = found->second;
  due_.erase({entry->due_ns, id});
  entries_.erase(found);
  changed_.wait(lock, [&] {
    return entry->looking == std::thread::id() || entry->looking == std::this_thread::get_id();
  });
}

void LimitWatch::schedule(uint64_t id, Entry* entry, uint64_t due_ns) {
  entry->due_ns = due_ns;
  due_.emplace(due_ns, id);
  changed_.notify_all();
}

uint64_t LimitWatch::run_due(jail::TenantSlot* slot) {
  std::unique_lock lock(mutex_);
  while (!due_.empty()) {
    const auto [due_ns, id] = *due_.begin();
    if (due_ns > clock_()) {
      return due_ns;
    }
    due_.erase(due_.begin());
    const std::shared_ptr<Entry> entry = entries_.at(id);
    entry->looking = std::this_thread::get_id();
    lock.unlock();
    const uint64_t next_ns = look(entry.get(), slot);
    lock.lock();
    entry->looking = {};
    changed_.notify_all();
    if (next_ns != 0 && entries_.contains(id)) {
      schedule(id, entry.get(), next_ns);
    }
  }
  return kNever;
}

StatusOr<LimitTracker::Sample> LimitWatch::sample(Entry* entry) const {
  LimitTracker::Sample sample = {.now_ns = clock_()};
  if (entry->tracker.wants_cpu()) {
    RAMET_ASSIGN_OR_RETURN(sample.cpu_ns, entry->machine->cpu_ns());
  }
  if (entry->tracker.memory_is_due(sample.now_ns)) {
    RAMET_ASSIGN_OR_RETURN(sample.private_bytes, entry->machine->private_bytes(*pagemap_));
    sample.memory_cost_ns = clock_() - sample.now_ns;
  }
  return sample;
}

uint64_t LimitWatch::look(Entry* entry, jail::TenantSlot* slot) {
  if (slot != nullptr) {
    slot->set(entry->machine->tenant());
  }
  const auto taken = sample(entry);
  if (!taken.ok()) {
    // Without figures the limit would be none.
    entry->machine->end({EndReason::kHostError, absl::StrCat("its limits cannot be watched: ",
                                                             taken.status().ToString())});
    return 0;
  }
  const LimitTracker::Verdict verdict = entry->tracker.judge(*taken);
  if (verdict.hit) {
    entry->machine->end(limit_end(*verdict.hit));
    return 0;
  }
  if (verdict.cpu_more_ns != 0) {
    entry->machine->count_cpu(verdict.cpu_more_ns);
  }
  return verdict.next_ns;
}

void LimitWatch::body(jail::TenantSlot* slot, uint64_t generation) {
  std::unique_lock lock(mutex_);
  while (generation == generation_) {
    lock.unlock();
    const uint64_t next_ns = run_due(slot);
    slot->set(nullptr);
    lock.lock();
    const auto sooner = [&] {
      return generation != generation_ || (!due_.empty() && due_.begin()->first < next_ns);
    };
    if (next_ns == kNever) {
      changed_.wait(lock, sooner);
    } else {
      const std::chrono::steady_clock::time_point next{std::chrono::nanoseconds(next_ns)};
      changed_.wait_until(lock, next, sooner);
    }
  }
}

Status LimitWatch::renew_refused() {
  const std::lock_guard lock(mutex_);
  if (threads_.empty() || !threads_.back()->was_refused()) {
    return Status();
  }
  changed_.notify_all();
  return start_thread();
}

}  // namespace ramet
