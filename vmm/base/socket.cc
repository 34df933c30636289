#include "vmm/base/socket.h"

#include <sys/socket.h>

#include <cstring>
#include <utility>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

using ControlRoom = std::array<std::byte, CMSG_SPACE(kMaxMessageFiles * sizeof(int))>;

std::vector<UniqueFd> take_files(msghdr* message) {
  std::vector<UniqueFd> files;
  for (cmsghdr* one = CMSG_FIRSTHDR(message); one != nullptr; one = CMSG_NXTHDR(message, one)) {
    if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(one) + i * sizeof fd, sizeof fd);
      files.emplace_back(fd);
    }
  }
  return files;
}

}  // namespace

StatusOr<std::array<UniqueFd, 2>> message_socket_pair(Blocking blocking) {
  std::array<int, 2> ends = {-1, -1};
  const int flags = SOCK_CLOEXEC | (blocking == Blocking::kDontWait ? SOCK_NONBLOCK : 0);
  const sys::Result made = sys::invoke(sys::Call::kSocket, sys::OnEintr::kRetry, [&] {
    return ::socketpair(AF_UNIX, SOCK_SEQPACKET | flags, 0, ends.data());
  });
  RAMET_RETURN_IF_ERROR(made.status("socketpair"));
  return std::array{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

sys::Result send_message(int socket, std::span<const std::byte> head,
                         std::span<const std::byte> body, Blocking blocking,
                         std::span<const int> files) {
  if (files.size() > kMaxMessageFiles) {
    return {-1, EMSGSIZE};
  }
  std::array<iovec, 2> parts = {iovec{const_cast<std::byte*>(head.data()), head.size()},
                                iovec{const_cast<std::byte*>(body.data()), body.size()}};
  alignas(cmsghdr) ControlRoom control;
  msghdr message = {};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  if (!files.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(files.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(files.size_bytes());
    std::memcpy(CMSG_DATA(header), files.data(), files.size_bytes());
  }
  const int flags = MSG_NOSIGNAL | (blocking == Blocking::kDontWait ? MSG_DONTWAIT : 0);
  return sys::invoke(sys::Call::kSocket, sys::OnEintr::kRetry,
                     [&] { return ::sendmsg(socket, &message, flags); });
}

void shutdown_sending(int socket) {
  // It fails where the peer has gone, which is as good.
  sys::invoke(sys::Call::kSocket, sys::OnEintr::kRetry,
              [&] { return ::shutdown(socket, SHUT_WR); });
}

StatusOr<ReceivedMessage> receive_message(int socket, std::span<std::byte> into, Blocking blocking,
                                          size_t max_files) {
  iovec part = {into.data(), into.size()};
  alignas(cmsghdr) ControlRoom control;
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(max_files * sizeof(int));
  const int flags = MSG_CMSG_CLOEXEC | (blocking == Blocking::kDontWait ? MSG_DONTWAIT : 0);
  const sys::Result got = sys::invoke(sys::Call::kSocket, sys::OnEintr::kRetry,
                                      [&] { return ::recvmsg(socket, &message, flags); });
  if (got.error == ECONNRESET) {
    return ReceivedMessage{};  // it closed with something unread
  }
  RAMET_RETURN_IF_ERROR(got.status("receive a message"));
  ReceivedMessage received = {.bytes = static_cast<size_t>(got.value),
                              .files = take_files(&message)};
  // Padding may have left room for one more than asked for.
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || received.files.size() > max_files) {
    return absl::DataLossError(absl::StrFormat("a message of more than %d bytes or %d descriptors",
                                               into.size(), max_files));
  }
  return received;
}

}  // namespace ramet
