// LimitWatch: looks at the instances that have limits of time or memory, when it is time to, and
// ends those that are over: one thread for all, made with the first of them.
//
// Thread rule: every method from any thread; remove() also from inside a callback. run_due() is the
// thread's own, and for tests without one.
// Invariant: a machine is called with no lock held, and never once remove() has returned. An
// instance without such limits is unknown here.
#ifndef RAMET_LIB_INSTANCE_LIMIT_WATCH_H_
#define RAMET_LIB_INSTANCE_LIMIT_WATCH_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "lib/instance/limit_tracker.h"
#include "vmm/base/clock.h"
#include "vmm/base/status.h"
#include "vmm/jail/jail.h"
#include "vmm/machine/machine_end.h"
#include "vmm/memory/pagemap.h"

namespace ramet {

// What the watch asks of a machine, and does to it.
class WatchedMachine {
 public:
  virtual ~WatchedMachine() = default;
  virtual StatusOr<uint64_t> cpu_ns() = 0;
  virtual StatusOr<uint64_t> private_bytes(const Pagemap& pagemap) = 0;
  // Its vCPUs ran so much more.
  virtual void count_cpu(uint64_t more_ns) = 0;
  virtual void end(const MachineEnd& end) = 0;
  // On whose account the watch works while it looks.
  virtual std::shared_ptr<jail::Tenant> tenant() = 0;
};

class LimitWatch {
 public:
  using Clock = uint64_t (*)();
  // `jail` makes the thread and outlives the watch; without one there is none, and run_due() is the
  // test's.
  explicit LimitWatch(jail::Jail* jail, Clock clock = monotonic_ns) : jail_(jail), clock_(clock) {}
  ~LimitWatch();
  LimitWatch(const LimitWatch&) = delete;
  LimitWatch& operator=(const LimitWatch&) = delete;

  // What add() does at need, for a process that later can neither open files nor make threads.
  Status open_pagemap();
  // The same, and what was opened: it lives as long as the watch.
  StatusOr<const Pagemap*> pagemap();
  Status start();

  // `machine` is looked at from now on until remove(). Fails where its figures cannot be had, or
  // there is no thread for it: a limit that nobody watches is none. On a thread that may open
  // files.
  StatusOr<uint64_t> add(WatchedMachine* machine, const InstanceLimits& limits, uint32_t vcpus);
  void remove(uint64_t id);

  // Looks at all that are due, and says when the next one is. `slot` is the thread's.
  uint64_t run_due(jail::TenantSlot* slot = nullptr);
  // Puts a new thread in the place of one that was refused a system call. Not from its own.
  Status renew_refused();

 private:
  struct Entry {
    WatchedMachine* machine = nullptr;
    LimitTracker tracker;
    uint64_t due_ns = 0;           // 0: not to be looked at again
    std::thread::id looking = {};  // who is at it, with mutex_
  };

  // With mutex_ held.
  Status open_pagemap_locked();
  Status start_thread();
  void schedule(uint64_t id, Entry* entry, uint64_t due_ns);

  // Without. The next time to look; 0 when it is over.
  uint64_t look(Entry* entry, jail::TenantSlot* slot);
  StatusOr<LimitTracker::Sample> sample(Entry* entry) const;
  void body(jail::TenantSlot* slot, uint64_t generation);

  jail::Jail* const jail_;
  const Clock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<const Pagemap> pagemap_;  // since the first add()
  std::map<uint64_t, std::shared_ptr<Entry>> entries_;
  std::set<std::pair<uint64_t, uint64_t>> due_;  // when, who
  uint64_t next_id_ = 1;
  uint64_t generation_ = 0;  // of the thread; one that finds another leaves
  std::vector<std::unique_ptr<jail::JailedThread>> threads_;  // the last one works
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_LIMIT_WATCH_H_
