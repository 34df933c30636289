// Status helpers: building a Status from an errno, adding a clause, passing errors on.
//
// Thread rule: free functions, call from anywhere.
// Invariant: a message says what was asked and what was found; each layer adds one clause in front.
#ifndef RAMET_VMM_BASE_STATUS_H_
#define RAMET_VMM_BASE_STATUS_H_

#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/strings/str_format.h>

namespace ramet {

using absl::Status;
using absl::StatusOr;

// A Status for `error` (an errno value). `what` says what was asked: "open /dev/kvm".
// EAGAIN, EINTR, EBUSY, ETXTBSY become Unavailable; ENOMEM, EMFILE, ENFILE, ENOSPC, EDQUOT, EFBIG
// ResourceExhausted; ENOENT NotFound; EEXIST AlreadyExists; EACCES and EPERM PermissionDenied;
// EINVAL, ENAMETOOLONG, ELOOP InvalidArgument; EROFS, ENOTDIR, EISDIR, ENOTEMPTY, ENODEV, ENXIO
// FailedPrecondition; ENOSYS, EOPNOTSUPP, ENOTTY Unimplemented; others Internal.
Status errno_status(int error, std::string_view what);

// `status` with "clause: " put before its message; payloads are kept. An OK status comes back as it
// is.
Status annotate(const Status& status, std::string_view clause);
// As absl::StrFormat, and only where it is needed.
template <typename First, typename... Rest>
Status annotate(const Status& status, const absl::FormatSpec<First, Rest...>& clause,
                const First& first, const Rest&... rest) {
  return status.ok() ? status : annotate(status, absl::StrFormat(clause, first, rest...));
}

}  // namespace ramet

// A name that is declared cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define RAMET_CONCAT_INNER(a, b) a##b
#define RAMET_CONCAT(a, b) RAMET_CONCAT_INNER(a, b)

#define RAMET_RETURN_IF_ERROR(expression) \
  RAMET_RETURN_IF_ERROR_IMPL(RAMET_CONCAT(ramet_status_, __LINE__), expression)
#define RAMET_RETURN_IF_ERROR_IMPL(temporary, expression)           \
  do {                                                              \
    if (::absl::Status temporary = (expression); !temporary.ok()) { \
      return temporary;                                             \
    }                                                               \
  } while (false)

// RAMET_ASSIGN_OR_RETURN(auto fd, open_it());
#define RAMET_ASSIGN_OR_RETURN(declaration, expression) \
  RAMET_ASSIGN_OR_RETURN_IMPL(RAMET_CONCAT(ramet_statusor_, __LINE__), declaration, expression)
#define RAMET_ASSIGN_OR_RETURN_IMPL(temporary, declaration, expression) \
  auto temporary = (expression);                                        \
  if (!temporary.ok()) {                                                \
    return std::move(temporary).status();                               \
  }                                                                     \
  declaration = std::move(temporary).value()
// NOLINTEND(bugprone-macro-parentheses)

#endif  // RAMET_VMM_BASE_STATUS_H_
