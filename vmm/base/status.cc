#include "vmm/base/status.h"

#include <cerrno>
#include <cstring>
#include <string>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

absl::StatusCode code_for_errno(int error) {
  switch (error) {
    case EAGAIN:
    case EINTR:
    case EBUSY:
    case ETXTBSY:
      return absl::StatusCode::kUnavailable;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::StatusCode::kResourceExhausted;
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case EACCES:
    case EPERM:
      return absl::StatusCode::kPermissionDenied;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
      return absl::StatusCode::kInvalidArgument;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case EROFS:
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY:
    case ENODEV:
    case ENXIO:
      return absl::StatusCode::kFailedPrecondition;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOTTY:
      return absl::StatusCode::kUnimplemented;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

Status errno_status(int error, std::string_view what) {
  // Not strerror(): that one translates, and opens files for it, which most threads may not.
  const char* known = ::strerrordesc_np(error);
  const char* reason = known == nullptr ? "Unknown error" : known;
  return Status(code_for_errno(error),
                absl::StrFormat("%s: %s (errno %d)", std::string(what), reason, error));
}

Status annotate(const Status& status, std::string_view clause) {
  if (status.ok()) {
    return status;
  }
  const auto old = status.message();
  Status result(status.code(), absl::StrFormat("%s: %s", std::string(clause),
                                               std::string(old.data(), old.size())));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { result.SetPayload(url, payload); });
  return result;
}

}  // namespace ramet
