#include "lib/agent/guest/vsock.h"

// clang-format off: vm_sockets.h needs struct sockaddr before it
#include <linux/vm_sockets.h>
#include <sys/socket.h>
// clang-format on

#include <cstring>

#include "lib/agent/wire.h"

namespace ramet::guest {
namespace {

constexpr int kBacklog = 64;

sockaddr_vm address_of(uint32_t cid, uint32_t port) {
  sockaddr_vm address = {};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

}  // namespace

UniqueFd vsock_listen(uint32_t port) {
  const sockaddr_vm address = address_of(VMADDR_CID_ANY, port);
  UniqueFd fd(::socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid() ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return UniqueFd();
  }
  return fd;
}

UniqueFd vsock_connect_host(uint32_t port) {
  const sockaddr_vm address = address_of(wire::kHostCid, port);
  UniqueFd fd(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() ||
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return UniqueFd();
  }
  return fd;
}

bool is_host(const sockaddr_storage& peer) {
  sockaddr_vm address = {};
  static_assert(sizeof(address) <= sizeof(peer));
  std::memcpy(&address, &peer, sizeof(address));
  return peer.ss_family != AF_VSOCK || address.svm_cid == wire::kHostCid;
}

}  // namespace ramet::guest
