#include "vmm/base/unique_fd.h"

#include <unistd.h>

namespace ramet {

// close() is not repeated: on Linux the descriptor is gone even after EINTR.
void UniqueFd::reset() {
  if (fd_ >= 0) {
    ::close(fd_);
    fd_ = -1;
  }
}

}  // namespace ramet
