// Reason: what kind of trouble an error is, for programs that act on it. Carried in the payload of
// an absl::Status.
//
// Thread rule: pure functions.
#ifndef RAMET_REASON_H_
#define RAMET_REASON_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include <absl/status/status.h>

#include <ramet/export.h>
#include <ramet/outcome.h>

namespace sandbox {

enum class Reason : uint8_t {
  kNone = 0,              // the status carries no reason
  kKvmMissing = 1,        // the host has no KVM device
  kKvmDenied = 2,         // it has one, but this process may not open it
  kKvmUnfit = 3,          // its KVM lacks something Ramet cannot do without
  kBadKernel = 4,         // the kernel image is none, is cut short, or does not fit
  kBadImage = 5,          // the root file system image is missing, empty or unreadable
  kBadTemplate = 6,       // a template directory is damaged or incomplete
  kIncompatible = 7,      // a good template that this host cannot run
  kGuestDied = 8,         // the guest powered off, crashed or faulted
  kGuestHung = 9,         // the guest did not answer in time
  kGuestMisbehaved = 10,  // the guest broke the protocol with the host; the sandbox is poisoned
  kProcessesAlive = 11,   // a template cannot be frozen while processes live in it
  kKilled = 12,           // kill() was called
  kReseedFailed = 13,     // the guest did not acknowledge its fresh randomness
  kCallRefused = 14,  // a thread of the library asked for a system call that it never needs: taken
                      // for a guest that broke out into it; the sandbox is poisoned
  kConfinementRefused = 15,  // confinement is required, and this host does not grant it
  kLimitReached = 16,        // another limit of the sandbox was reached; limit_of() has the figures
  kHostBusy = 17,    // the host is short of memory, descriptors or threads; retry_after() says when
                     // to try again
  kHelperDied = 18,  // the process of Isolation::kProcess ended, and not because the guest did
  kReset = 19,       // reset() was called while a command ran
  kOutOfMemory = 20,  // Limits::private_memory was reached; limit_of() has the figures
};

// The reason in `status`; kNone when there is none.
RAMET_EXPORT Reason reason_of(const absl::Status& status);

// The limit behind kLimitReached or kOutOfMemory; nothing for other reasons.
RAMET_EXPORT std::optional<LimitHit> limit_of(const absl::Status& status);

// For kHostBusy: how long to wait before another try; nothing for other reasons.
RAMET_EXPORT std::optional<std::chrono::milliseconds> retry_after(const absl::Status& status);

// "guest_died"; for logs and JSON.
RAMET_EXPORT std::string_view reason_name(Reason reason);

}  // namespace sandbox

#endif  // RAMET_REASON_H_
