// Shells: the machines that a process keeps made ahead of need, over all templates: how many, who
// makes them, and how they go when the host is short.
//
// Thread rule: every method from any thread. It outlives its pools' jobs: its owner joins the maker
// before anything that the jobs use goes.
// Invariant: at most `max` shells stand ready or are being made.
#ifndef RAMET_LIB_INSTANCE_SHELLS_H_
#define RAMET_LIB_INSTANCE_SHELLS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/io/worker_pool.h"
#include "vmm/machine/machine.h"

namespace ramet {

class ShellPool;

class Shells {
 public:
  struct Parts {
    WorkerPool* maker = nullptr;   // makes them; its thread has no filter
    WorkerPool* reaper = nullptr;  // takes those down that nobody wants
    // Whether the host is too short of memory for what nobody has asked for yet.
    std::function<bool()> host_is_short = {};
    uint32_t per_template = 0;  // that stand ready; 0: none are made
    uint32_t max = 0;           // over all templates
  };
  explicit Shells(Parts parts) : parts_(std::move(parts)) {}

  const Parts& parts() const { return parts_; }
  // Those of one template, from its first fork on. `make` makes one, on the maker's thread.
  std::shared_ptr<ShellPool> add(std::function<StatusOr<std::unique_ptr<Machine>>()> make);
  // Gives all that stand ready to the reaper; says how many they were.
  size_t drop();

  // A place for one more; false where `max` are taken.
  bool take_place();
  void give_places(size_t count);

 private:
  const Parts parts_;
  std::mutex mutex_;
  size_t taken_ = 0;
  std::vector<std::weak_ptr<ShellPool>> pools_;
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_SHELLS_H_
