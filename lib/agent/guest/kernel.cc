#include "lib/agent/guest/kernel.h"

#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "lib/agent/wire.h"
#include "vmm/base/unique_fd.h"

namespace ramet::guest {

size_t readable_bytes(int fd) {
  int count = 0;
  return ::ioctl(fd, FIONREAD, &count) == 0 && count > 0 ? static_cast<size_t>(count) : 0;
}

int reseed_kernel(std::span<const std::byte> entropy) {
  struct {  // rand_pool_info with its flexible array given a size
    int entropy_count;
    int buf_size;
    std::array<std::byte, wire::kEntropyBytes> buf;
  } info = {};
  if (entropy.size() > info.buf.size()) {
    return EINVAL;
  }
  info.entropy_count = static_cast<int>(entropy.size()) * 8;
  info.buf_size = static_cast<int>(entropy.size());
  std::ranges::copy(entropy, info.buf.begin());
  const UniqueFd fd(::open("/dev/urandom", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) {
    return errno;
  }
  const bool ok =
      ::ioctl(fd.get(), RNDADDENTROPY, &info) == 0 && ::ioctl(fd.get(), RNDRESEEDCRNG) == 0;
  const int error = ok ? 0 : errno;
  ::explicit_bzero(&info, sizeof(info));
  return error;
}

int bring_up_loopback() {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) {
    return errno;
  }
  ifreq request = {};
  std::memcpy(request.ifr_name, "lo", 3);
  if (::ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0) {
    return errno;
  }
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0 ? 0 : errno;
}

}  // namespace ramet::guest
