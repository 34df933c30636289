// HelperPool: helper processes that stand ready, so that a fork into one costs no start of a
// process.
//
// Thread rule: every method from any thread.
// Invariant: all processes are started by one thread, which lives as long as the pool: they die
// with it. At most `ready` wait.
#ifndef RAMET_LIB_HELPER_POOL_H_
#define RAMET_LIB_HELPER_POOL_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "lib/helper/process.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/io/worker_pool.h"
#include "vmm/jail/cgroup.h"
#include "vmm/jail/jail.h"

namespace ramet::helper {

struct HelperPoolOptions {
  jail::Jail* jail = nullptr;  // outlives the pool
  int kvm = -1;                // outlives it too
  std::string program = {};    // a file; empty: the one that the library carries
  uint32_t ready = 2;
  std::string_view role = {};  // what they are (lib/helper/wire/build.h); empty: helpers
  bool required = false;       // the whole of the enclosure, and every controller
  std::string cgroup = {};     // a directory for their control groups; empty: they have none
};

class HelperPool {
 public:
  // Starts no process yet. FailedPrecondition where `cgroup` is not what it should be.
  static StatusOr<std::unique_ptr<HelperPool>> create(HelperPoolOptions options);
  ~HelperPool();

  // One that stands ready, or as soon as one does. FailedPrecondition where the whole enclosure is
  // required and this host does not grant it; DeadlineExceeded at `deadline_ns` (CLOCK_MONOTONIC,
  // 0 = none); what spawn() and the helper said.
  StatusOr<std::unique_ptr<HelperProcess>> take(uint64_t deadline_ns);

  // Gives up those that stand ready: the host is short of something. They come again at need.
  void drop_ready();
  // Waits until as many stand ready as shall. DeadlineExceeded, or why the last one failed.
  Status fill(uint64_t deadline_ns);

  // Of the control groups; nothing where there are none.
  const jail::ControllersGiven* controllers() const {
    return cgroups_ == nullptr ? nullptr : &cgroups_->given();
  }
  // What the last one that was started stands behind; starts one where none was.
  StatusOr<jail::Enclosure> enclosure(uint64_t deadline_ns);

 private:
  HelperPool(HelperPoolOptions options, UniqueFd program)
      : options_(std::move(options)), program_(std::move(program)) {}
  Status open_cgroups();
  void order_locked(size_t count);
  void start_one();
  StatusOr<std::unique_ptr<HelperProcess>> start_checked();
  // Until one is ready, or starting failed after `failures` failures.
  Status wait_ready(std::unique_lock<std::mutex>* lock, uint64_t deadline_ns);

  const HelperPoolOptions options_;
  const UniqueFd program_;
  std::unique_ptr<jail::Cgroups> cgroups_;  // before all processes, which are in them
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<HelperProcess>> ready_;
  size_t ordered_ = 0;
  size_t waiting_ = 0;
  uint64_t failures_ = 0;
  Status last_failure_;
  std::optional<jail::Enclosure> enclosure_;
  std::unique_ptr<WorkerPool> spawner_;  // last: its jobs use all of the above
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_POOL_H_
