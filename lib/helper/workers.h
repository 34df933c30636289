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
  // `pool` starts the processes. `events` and `log` outlive it.
  static StatusOr<std::unique_ptr<Workers>> start(std::unique_ptr<HelperPool> pool,
                                                  uint32_t processes, HelperEvents* events,
                                                  LogSink* log);

  // A place in the one where the fewest are taken. Errors as HelperPool::take(), where none lives
  // and none can be started.
  StatusOr<std::shared_ptr<const WorkerProcess::Seat>> choose(uint64_t deadline_ns);

 private:
  Workers(std::unique_ptr<HelperPool> pool, HelperEvents* events, LogSink* log)
      : pool_(std::move(pool)), events_(*events), log_(*log) {}
  StatusOr<std::shared_ptr<WorkerProcess>> start_one(uint64_t deadline_ns);

  const std::unique_ptr<HelperPool> pool_;
  HelperEvents& events_;
  LogSink& log_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<WorkerProcess>> processes_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WORKERS_H_
