// LearnedSet: keeps one template known to the worker processes that it was taught to, so that what
// they have made ready for it stays there between its machines.
//
// Thread rule: every method from any thread.
// Invariant: a process that has died is held no longer than until the next one is taught, or until
// as many other templates were used in it as one keeps.
#ifndef RAMET_LIB_HELPER_LEARNED_SET_H_
#define RAMET_LIB_HELPER_LEARNED_SET_H_

#include <memory>
#include <mutex>
#include <vector>

#include "lib/helper/worker_process.h"

namespace ramet::helper {

class LearnedSet {
 public:
  void add(const std::shared_ptr<const WorkerProcess::Learned>& learned);

 private:
  using Kept = std::shared_ptr<const WorkerProcess::Keeps::Kept>;

  std::mutex mutex_;
  std::vector<Kept> all_;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_LEARNED_SET_H_
