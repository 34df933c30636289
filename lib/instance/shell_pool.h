// ShellPool: machines of one template that were made ahead of need: KVM's objects, memory mapped
// copy-on-write, registers set, vCPU threads parked. What is left for a fork is its devices, its
// clocks and its identity.
//
// Thread rule: every method from any thread.
// Invariant: a shell has never run, and is given to one fork only. They are made one at a time, and
// not while the host is short of memory.
#ifndef RAMET_LIB_INSTANCE_SHELL_POOL_H_
#define RAMET_LIB_INSTANCE_SHELL_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "lib/instance/shells.h"
#include "vmm/base/status.h"
#include "vmm/machine/machine.h"

namespace ramet {

class ShellPool : public std::enable_shared_from_this<ShellPool> {
 public:
  // `make` makes one, on the maker's thread.
  ShellPool(Shells* shells, std::function<StatusOr<std::unique_ptr<Machine>>()> make)
      : shells_(*shells), make_one_(std::move(make)) {}
  ~ShellPool() { drop(); }
  ShellPool(const ShellPool&) = delete;
  ShellPool& operator=(const ShellPool&) = delete;

  // One that stands ready; null where none does.
  std::unique_ptr<Machine> take();
  // The same, but waits until `deadline_ns` (CLOCK_MONOTONIC; 0: for ever) for one that is being
  // made; null where none comes.
  std::unique_ptr<Machine> wait(uint64_t deadline_ns);
  // Has as many made as are wanting. Does not wait: forks call it when they are done.
  void refill();
  // Gives those that stand ready to the reaper; says how many they were.
  size_t drop();

  size_t ready() const;

 private:
  // On the maker's thread: one, and then the next.
  void make();
  // With mutex_ held.
  void start_making();
  std::unique_ptr<Machine> take_locked();

  Shells& shells_;
  const std::function<StatusOr<std::unique_ptr<Machine>>()> make_one_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Machine>> ready_;
  bool making_ = false;
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_SHELL_POOL_H_
