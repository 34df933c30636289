// Executor: where a device runs work that may block. The machine's builder supplies one over its
// event loops; tests supply threads or a list.
//
// Thread rule: post() from any thread, also while the caller holds its own mutex: it must neither
// block nor run `job` before it returns.
// Invariant: every posted job runs exactly once. An executor outlives the devices that use it, and
// keeps running while one of them is quiesced, reset or destroyed, since these wait for their jobs.
#ifndef RAMET_DEVICES_VIRTIO_EXECUTOR_H_
#define RAMET_DEVICES_VIRTIO_EXECUTOR_H_

#include <cstdint>
#include <functional>

namespace ramet::virtio {

class Executor {
 public:
  virtual ~Executor() = default;
  virtual void post(std::function<void()> job) = 0;
  // The same, not before `due_ns` (CLOCK_MONOTONIC), but at the executor's end.
  virtual void post_at(uint64_t due_ns, std::function<void()> job) = 0;
};

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_EXECUTOR_H_
