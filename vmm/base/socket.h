// Message sockets between two processes of Ramet: one datagram, one message, with descriptors.
//
// Thread rule: free functions, call from anywhere; one thread at a time sends, and one receives, on
// a socket.
// Invariant: what is received has its true size and descriptors that close on exec and have one
// owner; a message that did not fit, or carried more descriptors than asked for, is an error and
// leaves none open.
#ifndef RAMET_VMM_BASE_SOCKET_H_
#define RAMET_VMM_BASE_SOCKET_H_

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

// The most descriptors in one message: below the kernel's 253 (SCM_MAX_FD, include/net/scm.h).
inline constexpr size_t kMaxMessageFiles = 128;

// Whether a call may wait.
enum class Blocking : uint8_t { kWait, kDontWait };

// Two ends of a connection that keeps messages apart (AF_UNIX, SOCK_SEQPACKET), close on exec.
// `blocking`: for calls that do not say it themselves, as read(2) and write(2).
StatusOr<std::array<UniqueFd, 2>> message_socket_pair(Blocking blocking = Blocking::kWait);

// Sends `head` and `body` as one message. EAGAIN with kDontWait where the peer has not yet taken
// enough; EPIPE, never a signal, where it has gone.
sys::Result send_message(int socket, std::span<const std::byte> head,
                         std::span<const std::byte> body, Blocking blocking,
                         std::span<const int> files = {});

// Tells the peer that nothing more comes: what it receives next is a message of no bytes.
void shutdown_sending(int socket);

struct ReceivedMessage {
  size_t bytes = 0;  // 0: the peer has closed its end
  std::vector<UniqueFd> files = {};
};

// One message into `into`; at most `max_files` <= kMaxMessageFiles descriptors come with it.
// Unavailable with kDontWait where there is none; DataLoss where it is longer than `into` or has
// more descriptors.
StatusOr<ReceivedMessage> receive_message(int socket, std::span<std::byte> into, Blocking blocking,
                                          size_t max_files = 0);

}  // namespace ramet

#endif  // RAMET_VMM_BASE_SOCKET_H_
