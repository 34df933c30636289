// Reasons: the kind of trouble, as a payload of a Status, so that callers need not read messages.
//
// Thread rule: pure functions.
// Invariant: a status carries at most one; the innermost stays.
#ifndef RAMET_LIB_INSTANCE_REASONS_H_
#define RAMET_LIB_INSTANCE_REASONS_H_

#include <string>
#include <string_view>

#include "vmm/base/status.h"

namespace ramet {

// The payload's type URL; its bytes are one of the names below.
inline constexpr char kReasonUrl[] = "ramet/reason";

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
inline constexpr std::string_view kReseedFailed = "reseed_failed";
inline constexpr std::string_view kCallRefused = "call_refused";
inline constexpr std::string_view kConfinementRefused = "confinement_refused";
inline constexpr std::string_view kHelperDied = "helper_died";
}  // namespace reason

// `status` with this reason, unless it is OK or has one.
Status with_reason(Status status, std::string_view name);
// The name in it; empty when there is none.
std::string reason_of(const Status& status);

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_REASONS_H_
