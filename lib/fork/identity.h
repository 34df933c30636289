// What is new in every fork: the rows of the clone-hygiene list (docs/design.md section 6) that the
// host provides.
//
// Thread rule: free functions.
// Invariant: every value comes from the host's kernel generator; no two forks share one.
#ifndef RAMET_LIB_FORK_IDENTITY_H_
#define RAMET_LIB_FORK_IDENTITY_H_

#include <string>

#include "vmm/base/status.h"

namespace ramet {

// "ramet-" and 8 random hexadecimal digits.
StatusOr<std::string> random_hostname();

// InvalidArgument unless `hostname` is one by RFC 1123: labels of [A-Za-z0-9-], not beginning or
// ending with '-', 64 bytes at most (Linux's __NEW_UTS_LEN).
Status check_hostname(const std::string& hostname);

}  // namespace ramet

#endif  // RAMET_LIB_FORK_IDENTITY_H_
