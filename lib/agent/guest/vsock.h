// vsock: the three things the agent does with AF_VSOCK (vsock(7)).
//
// Thread rule: free functions.
#ifndef RAMET_LIB_AGENT_GUEST_VSOCK_H_
#define RAMET_LIB_AGENT_GUEST_VSOCK_H_

#include <cstdint>

#include "vmm/base/unique_fd.h"

struct sockaddr_storage;

namespace ramet::guest {

// A listening socket on `port` of every local address; not valid on failure (errno says why).
UniqueFd vsock_listen(uint32_t port);
// A connection to `port` of the host; not valid on failure (errno says why).
UniqueFd vsock_connect_host(uint32_t port);
// With vsock_loopback any process of the guest could connect to the agent and be root: only the
// host may. True for the host, and for other families, which only tests use.
bool is_host(const sockaddr_storage& peer);

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_VSOCK_H_
