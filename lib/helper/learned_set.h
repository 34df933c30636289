// LearnedSet: keeps one template known to the worker processes that it was taught to, so that what
// they have made ready for it stays there between its machines.
//
// Thread rule: every method from any thread.
// Invariant: a process that has died is held no longer than until the next one is taught.
#ifndef RAMET_LIB_HELPER_LEARNED_SET_H_
#define RAMET_LIB_HELPER_LEARNED_SET_H_

#include <memory>
#include <mutex>
#include <vector>

#include "lib/helper/worker_process.h"

namespace ramet::helper {

class LearnedSet {
 public:
  void add(std::shared_ptr<const WorkerProcess::Learned> learned);

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<const WorkerProcess::Learned>> all_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_LEARNED_SET_H_
