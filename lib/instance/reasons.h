// Reasons: the kind of trouble, as a payload of a Status, so that callers need not read messages.
//
// Thread rule: pure functions.
// Invariant: a status carries at most one; the innermost stays. Figures that programs act on (the
// limit that was hit, when to try again) are payloads beside it.
#ifndef RAMET_LIB_INSTANCE_REASONS_H_
#define RAMET_LIB_INSTANCE_REASONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/status.h"
#include "vmm/machine/limit.h"

namespace ramet {

// The payload's type URL; its bytes are one of the names below.
inline constexpr char kReasonUrl[] = "ramet/reason";
// "private_memory 67108864 74448896": which limit, allowed, used.
inline constexpr char kLimitUrl[] = "ramet/limit";
// Milliseconds.
inline constexpr char kRetryAfterUrl[] = "ramet/retry_after_ms";

namespace reason {
inline constexpr std::string_view kKvmMissing = "kvm_missing";
inline constexpr std::string_view kKvmDenied = "kvm_denied";
inline constexpr std::string_view kKvmUnfit = "kvm_unfit";
inline constexpr std::string_view kBadKernel = "bad_kernel";
inline constexpr std::string_view kBadImage = "bad_image";
inline constexpr std::string_view kBadTemplate = "bad_template";
inline constexpr std::string_view kIncompatible = "incompatible";
inline constexpr std::string_view kGuestDied = "guest_died";
inline constexpr std::string_view kGuestHung = "guest_hung";
inline constexpr std::string_view kGuestMisbehaved = "guest_misbehaved";
inline constexpr std::string_view kProcessesAlive = "processes_alive";
inline constexpr std::string_view kKilled = "killed";
inline constexpr std::string_view kReset = "reset";
inline constexpr std::string_view kReseedFailed = "reseed_failed";
inline constexpr std::string_view kCallRefused = "call_refused";
inline constexpr std::string_view kConfinementRefused = "confinement_refused";
inline constexpr std::string_view kHelperDied = "helper_died";
inline constexpr std::string_view kLimitReached = "limit_reached";
inline constexpr std::string_view kOutOfMemory = "out_of_memory";
inline constexpr std::string_view kHostBusy = "host_busy";
}  // namespace reason

// `status` with this reason, unless it is OK or has one.
Status with_reason(Status status, std::string_view name);
// The name in it; empty when there is none.
std::string reason_of(const Status& status);

// ResourceExhausted with reason kLimitReached, of private memory kOutOfMemory, and the figures in
// message and payload.
Status limit_status(const LimitHit& hit);
// What a vsock device answers to one conversation too many, `most` being allowed; other statuses
// stay.
Status as_connection_limit(const Status& status, uint64_t most);
// Those figures; nothing where the status has none.
std::optional<LimitHit> limit_of(const Status& status);

// ResourceExhausted with reason kHostBusy: the host is short of something that it may have again.
Status busy_status(std::string_view why, uint64_t retry_after_ms);
std::optional<uint64_t> retry_after_ms_of(const Status& status);

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_REASONS_H_
