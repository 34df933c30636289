// Workers: the worker processes of an engine, and which of them the next machine goes to.
//
// Thread rule: every method from any thread.
// Invariant: so many of them take machines as were asked for; one that died is replaced when the
// next machine comes, and while it cannot be, the others take its machines.
#ifndef RAMET_LIB_HELPER_WORKERS_H_
#define RAMET_LIB_HELPER_WORKERS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "lib/helper/events.h"
#include "lib/helper/pool.h"
#include "lib/helper/worker_process.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/status.h"

namespace ramet::helper {

class Workers {
 public:
  // `pool` starts the processes.
  static StatusOr<std::unique_ptr<Workers>> start(std::unique_ptr<HelperPool> pool,
                                                  const WorkerProcess::Parts& parts,
                                                  uint32_t processes);

  // A place in the one where the fewest are taken. Errors as HelperPool::take(), where none lives
  // and none can be started.
  StatusOr<std::shared_ptr<const WorkerProcess::Seat>> choose(uint64_t deadline_ns);
  // Has each give up what it can do without.
  void relieve();

 private:
  Workers(std::unique_ptr<HelperPool> pool, const WorkerProcess::Parts& parts)
      : pool_(std::move(pool)), parts_(parts) {}
  StatusOr<std::shared_ptr<WorkerProcess>> start_one(uint64_t deadline_ns);

  const std::unique_ptr<HelperPool> pool_;
  const WorkerProcess::Parts parts_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<WorkerProcess>> processes_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WORKERS_H_
