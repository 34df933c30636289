// FdStream: a ByteStream over a stream socket, so that the client meets the real agent core, or a
// scripted one, without a machine.
//
// Thread rule: as ByteStream.
#ifndef RAMET_TESTS_UNIT_LIB_AGENT_FD_STREAM_H_
#define RAMET_TESTS_UNIT_LIB_AGENT_FD_STREAM_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "lib/agent/stream.h"
#include "vmm/base/clock.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unique_fd.h"

namespace ramet::test {

class FdStream final : public ByteStream {
 public:
  explicit FdStream(UniqueFd socket) : socket_(std::move(socket)) {
    ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
    wake_ = *sys::eventfd();
  }

  StatusOr<IoResult> try_read(std::span<std::byte> into) override {
    const ssize_t size = ::recv(socket_.get(), into.data(), into.size(), 0);
    return size == 0 ? IoResult::end() : result(size);
  }
  StatusOr<IoResult> try_write(std::span<const std::byte> from) override {
    return result(::send(socket_.get(), from.data(), from.size(), MSG_NOSIGNAL));
  }
  StatusOr<Readiness> wait(bool want_write, uint64_t deadline_ns) override {
    std::array<pollfd, 2> fds = {
        {{socket_.get(), static_cast<short>(want_write ? POLLIN | POLLOUT : POLLIN), 0},
         {wake_.get(), POLLIN, 0}}};
    const uint64_t now = monotonic_ns();
    const uint64_t left_ms = deadline_ns > now ? (deadline_ns - now) / 1'000'000 + 1 : 0;
    const int ready =
        ::poll(fds.data(), fds.size(), deadline_ns == 0 ? -1 : static_cast<int>(left_ms));
    if (ready == 0) {
      return absl::DeadlineExceededError("deadline of the wait");
    }
    if ((fds[1].revents & POLLIN) != 0) {
      uint64_t count = 0;
      (void)!::read(wake_.get(), &count, sizeof(count));
    }
    return Readiness{(fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0,
                     (fds[0].revents & (POLLOUT | POLLERR)) != 0};
  }
  void wake() override {
    const uint64_t one = 1;
    (void)!::write(wake_.get(), &one, sizeof(one));
  }
  Status shutdown_write() override {
    ::shutdown(socket_.get(), SHUT_WR);
    return Status();
  }

 private:
  static StatusOr<IoResult> result(ssize_t size) {
    if (size >= 0) {
      return IoResult::moved(static_cast<size_t>(size));
    }
    if (errno == EAGAIN || errno == EINTR) {
      return IoResult::would_block();
    }
    return absl::UnavailableError("connection reset");
  }

  UniqueFd socket_;
  UniqueFd wake_;
};

}  // namespace ramet::test

#endif  // RAMET_TESTS_UNIT_LIB_AGENT_FD_STREAM_H_
