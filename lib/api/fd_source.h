// FdSource: a command's standard input from a descriptor of the embedder's, which may be a pipe, a
// file or a terminal.
//
// Thread rule: as StdinSource; a thread of its own waits for the descriptor, since the embedder's
// may block. Invariant: reads only what the command has room for: at most one buffer of
// kBufferBytes is held. The descriptor's flags are not touched and it is not closed.
#ifndef RAMET_LIB_API_FD_SOURCE_H_
#define RAMET_LIB_API_FD_SOURCE_H_

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

#include "lib/agent/client.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/jail.h"

namespace sandbox {

class FdSource final : public ramet::StdinSource {
 public:
  static constexpr size_t kBufferBytes = 16 * 1024;

  // `jail` makes its thread, and outlives it.
  static absl::StatusOr<std::unique_ptr<FdSource>> create(ramet::jail::Jail* jail, int fd);
  ~FdSource() override;

  absl::StatusOr<ramet::IoResult> try_read(std::span<std::byte> into) override;
  void attach(std::function<void()> wake) override;

 private:
  explicit FdSource(int fd) : fd_(fd) {}
  void body();
  // Waits for the descriptor or the stop, and reads; Cancelled: stop.
  absl::StatusOr<ramet::sys::Result> wait_and_read();

  const int fd_;
  ramet::UniqueFd stop_;

  std::mutex mutex_;
  std::condition_variable emptied_;
  std::function<void()> wake_;
  std::array<std::byte, kBufferBytes> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool at_end_ = false;
  bool stopping_ = false;
  absl::Status error_;
  std::unique_ptr<ramet::jail::JailedThread> thread_;  // last: it uses all of the above
};

}  // namespace sandbox

#endif  // RAMET_LIB_API_FD_SOURCE_H_
