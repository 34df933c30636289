#include <absl/strings/str_split.h>

#include "examples/cli/error.h"
#include "examples/cli/table.h"

namespace cli {

std::string hint_for(sandbox::Reason reason, absl::StatusCode code, const std::string& target) {
  const std::string again = target.empty() ? "" : " `ramet template rm " + target + "`";
  switch (reason) {
    case sandbox::Reason::kKvmMissing:
      return "load the kvm_intel or kvm_amd module; in a virtual machine, have nested "
             "virtualisation switched on; `ramet doctor` tells more";
    case sandbox::Reason::kKvmDenied:
      return "give yourself access to the device: add your user to group kvm and log in again";
    case sandbox::Reason::kKvmUnfit:
      return "`ramet doctor` lists what is missing";
    case sandbox::Reason::kBadKernel:
      return "--kernel takes a Linux bzImage or ELF vmlinux, --kernel-tree the directory of an "
             "unpacked kernel package with lib/modules";
    case sandbox::Reason::kBadImage:
      return "--rootfs takes an ext4, erofs or squashfs image";
    case sandbox::Reason::kBadTemplate:
      return "remove the template with" + again + " and build it again";
    case sandbox::Reason::kIncompatible:
      return "build the template on this host: remove it with" + again + ", then build";
    case sandbox::Reason::kGuestDied:
    case sandbox::Reason::kGuestHung:
      return "--console shows what the guest says; more --memory may help; `ramet doctor` says "
             "whether this host can run Linux guests";
    case sandbox::Reason::kProcessesAlive:
      return "end what a --warmup started, within the --warmup: a template holds no running "
             "processes";
    case sandbox::Reason::kCallRefused:
      return "the guest may have broken out of its machine: keep what it ran, and report it";
    case sandbox::Reason::kConfinementRefused:
      return "`ramet doctor` says what this host does not grant";
    case sandbox::Reason::kHelperDied:
      return "the kernel's log may say why: out of memory, or a limit of this user's processes";
    case sandbox::Reason::kHostBusy:
      return "end something else on this host, or try again later; `ramet doctor` shows what it is "
             "short of";
    case sandbox::Reason::kOutOfMemory:
      return "--limit memory=SIZE sets what of its memory a run may make its own";
    case sandbox::Reason::kLimitReached:
      return "--limit sets what a run may use";
    case sandbox::Reason::kNone:
    case sandbox::Reason::kGuestMisbehaved:
    case sandbox::Reason::kKilled:
    case sandbox::Reason::kReset:
    case sandbox::Reason::kReseedFailed:
      break;
  }
  if (code == absl::StatusCode::kAlreadyExists) {
    return "choose another name, or remove it first with" + again;
  }
  return code == absl::StatusCode::kResourceExhausted ? "`ramet doctor` lists this host's limits"
                                                      : "";
}

std::string error_lines(const ErrorText& error) {
  std::string out = "ramet: " + printable(error.message) + "\n";
  if (!error.hint.empty()) {
    out += "  " + error.hint + "\n";
  }
  if (!error.console.empty()) {
    out += "  the guest's console ended with:\n";
    for (const auto line : absl::StrSplit(error.console, '\n')) {
      out += "    | " + std::string(line) + "\n";
    }
  }
  return out;
}

}  // namespace cli
