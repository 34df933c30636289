// Waker: how other threads of a helper process tell its first one, which waits in epoll, that there
// is something to do.
//
// Thread rule: wake() from any thread; take() on the first.
// Invariant: any number of wake() before a take() cost one system call.
#ifndef RAMET_LIB_HELPER_PROGRAM_WAKER_H_
#define RAMET_LIB_HELPER_PROGRAM_WAKER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "vmm/base/status.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unique_fd.h"

namespace ramet::helper {

class Waker {
 public:
  static StatusOr<std::unique_ptr<Waker>> create() {
    RAMET_ASSIGN_OR_RETURN(auto fd, sys::eventfd());
    return std::unique_ptr<Waker>(new Waker(std::move(fd)));
  }

  int fd() const { return fd_.get(); }
  void wake() {
    if (!woken_.exchange(true)) {
      const uint64_t one = 1;
      sys::write(fd_.get(), std::as_bytes(std::span<const uint64_t, 1>(&one, 1)));
    }
  }
  // Before looking at what there is to do.
  void take() {
    uint64_t count = 0;
    sys::read(fd_.get(), std::as_writable_bytes(std::span<uint64_t, 1>(&count, 1)));
    woken_.store(false);
  }

 private:
  explicit Waker(UniqueFd fd) : fd_(std::move(fd)) {}

  const UniqueFd fd_;
  std::atomic<bool> woken_{false};
};

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_WAKER_H_
