// UniqueFd owns one file descriptor and closes it once.
//
// Thread rule: like std::unique_ptr.
// Invariant: holds -1 or a descriptor nobody else closes.
#ifndef RAMET_VMM_BASE_UNIQUE_FD_H_
#define RAMET_VMM_BASE_UNIQUE_FD_H_

#include <utility>

namespace ramet {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

}  // namespace ramet

#endif  // RAMET_VMM_BASE_UNIQUE_FD_H_
