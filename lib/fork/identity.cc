#include "lib/fork/identity.h"

#include <array>

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

constexpr size_t kMaxHostname = 64;  // __NEW_UTS_LEN, include/uapi/linux/utsname.h

bool is_label(absl::string_view label) {
  if (label.empty() || label.front() == '-' || label.back() == '-') {
    return false;
  }
  for (const char c : label) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-') {
      return false;
    }
  }
  return true;
}

}  // namespace

StatusOr<std::string> random_hostname() {
  std::array<std::byte, 4> random;
  RAMET_RETURN_IF_ERROR(sys::getrandom(random));
  std::string name = "ramet-";
  for (const std::byte byte : random) {
    name += absl::StrFormat("%02x", std::to_integer<int>(byte));
  }
  return name;
}

Status check_hostname(const std::string& hostname) {
  bool good = !hostname.empty() && hostname.size() <= kMaxHostname;
  for (const absl::string_view label : absl::StrSplit(hostname, '.')) {
    good = good && is_label(label);
  }
  return good ? Status()
              : absl::InvalidArgumentError(absl::StrFormat(
                    "\"%s\" is no host name: letters, digits and inner hyphens in labels joined "
                    "by dots, 1 to %d bytes",
                    absl::CHexEscape(hostname), kMaxHostname));
}

}  // namespace ramet
