// MachineHome: where a sandbox's machine lives outside this process, as its owner holds it: a
// process of its own (HelperProcess), or one of the machines of a worker process (WorkerProcess).
//
// Thread rule: every method from any thread.
// Invariant: destruction ends what lives there and waits for its end.
#ifndef RAMET_LIB_HELPER_MACHINE_HOME_H_
#define RAMET_LIB_HELPER_MACHINE_HOME_H_

#include "lib/helper/channel.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet::helper {

class MachineHome {
 public:
  virtual ~MachineHome() = default;

  // For requests about this machine alone.
  virtual RequestChannel& channel() = 0;
  // Where it tells what happens; once.
  virtual UniqueFd take_events() = 0;
  // Ends it. Never blocks.
  virtual void kill() = 0;
  // The same where it has not ended by itself after so many milliseconds.
  virtual void kill_unless_ending(int milliseconds) = 0;
  // Waits until it has ended; OK where it was killed by us or ended in order, else why it ended.
  // The same answer each time. Then its descriptors are closed.
  virtual Status wait_end() = 0;
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_MACHINE_HOME_H_
