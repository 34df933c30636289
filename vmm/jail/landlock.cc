#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "vmm/base/syscall.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/enclosure.h"

namespace ramet::jail {
namespace {

// As many file-system rights as each version of the interface knows, from its first on: bits 0 to
// 12; 13 (refer) came with 2, 14 (truncate) with 3, 15 (ioctl of devices) with 5.
constexpr std::array<uint64_t, 6> kFileRights = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff};
constexpr uint64_t kNetworkRights = 0x3;  // bind and connect of TCP; version 4
constexpr uint64_t kScopes = 0x3;         // abstract sockets and signals; version 6

// struct landlock_ruleset_attr of version 6, of which an older kernel takes the beginning.
struct Ruleset {
  uint64_t files = 0;
  uint64_t network = 0;
  uint64_t scoped = 0;
};

sys::Result create_ruleset(const Ruleset* rules, size_t bytes, uint32_t flags) {
  return sys::invoke(sys::Call::kSeccomp, sys::OnEintr::kRetry,
                     [&] { return ::syscall(SYS_landlock_create_ruleset, rules, bytes, flags); });
}

}  // namespace

int deny_all_files() {
  const sys::Result version = create_ruleset(nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (!version.ok()) {
    return version.error;
  }
  const auto known = static_cast<size_t>(version.value);
  Ruleset rules = {.files = kFileRights[std::min(known, kFileRights.size() - 1)]};
  size_t bytes = sizeof rules.files;
  if (known >= 4) {
    rules.network = kNetworkRights;
    bytes += sizeof rules.network;
  }
  if (known >= 6) {
    rules.scoped = kScopes;
    bytes += sizeof rules.scoped;
  }
  const sys::Result made = create_ruleset(&rules, bytes, 0);
  if (!made.ok()) {
    return made.error;
  }
  const UniqueFd ruleset(static_cast<int>(made.value));
  return sys::invoke(sys::Call::kSeccomp, sys::OnEintr::kRetry,
                     [&] { return ::syscall(SYS_landlock_restrict_self, ruleset.get(), 0); })
      .error;
}

}  // namespace ramet::jail
