#include "vmm/jail/enclosure.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <absl/strings/str_cat.h>

#include "vmm/base/syscall.h"

namespace ramet::jail {
namespace {

// "nobody" of Linux's own choice (overflowuid, Documentation/admin-guide/sysctl/kernel.rst).
constexpr unsigned kNobody = 65534;

template <typename Function>
int error_of(Function function) {
  return sys::invoke(sys::Call::kSpawn, sys::OnEintr::kRetry, function).error;
}

// The first error of several calls.
template <typename First, typename... Rest>
int first_error(First first, Rest... rest) {
  const int error = error_of(first);
  if constexpr (sizeof...(rest) == 0) {
    return error;
  } else {
    return error != 0 ? error : first_error(rest...);
  }
}

// The new root is a file system that nobody else mounts: pivot_root(2), "pivot_root(".", ".")".
int empty_root() {
  constexpr const char* kPlace = "/proc";  // any directory that every system has
  return first_error(
      [] { return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr); },
      [] {
        return ::mount("ramet", kPlace, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                       "size=4k,nr_inodes=1,mode=0500");
      },
      [] { return ::chdir(kPlace); }, [] { return ::syscall(SYS_pivot_root, ".", "."); },
      [] { return ::umount2(".", MNT_DETACH); }, [] { return ::chdir("/"); },
      [] {
        return ::mount(nullptr, "/", nullptr,
                       MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr);
      });
}

// The raw calls: the C library's change every thread of the process, and there is one.
int become_nobody() {
  return first_error([] { return ::syscall(SYS_setgroups, 0, nullptr); },
                     [] { return ::syscall(SYS_setresgid, kNobody, kNobody, kNobody); },
                     [] { return ::syscall(SYS_setresuid, kNobody, kNobody, kNobody); });
}

int drop_capabilities() {
  // Until the kernel knows no further one (EINVAL). Where the process may not, it has none to drop.
  for (int capability = 0; capability <= 63; ++capability) {
    if (error_of([&] { return ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0); }) == EINVAL) {
      break;
    }
  }
  error_of([] {
    return ::prctl(PR_SET_SECUREBITS,
                   SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                       SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                       SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
                   0, 0, 0);
  });
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct none[2] = {};
  return error_of([&] { return ::syscall(SYS_capset, &header, none); });
}

int limit(__rlimit_resource resource, uint64_t value) {
  const rlimit both = {value, value};
  return error_of([&] { return ::setrlimit(resource, &both); });
}

// The same where it may be more than this process may have: that is as good.
int lower(__rlimit_resource resource, uint64_t value) {
  rlimit now = {};
  ::getrlimit(resource, &now);  // cannot fail
  return limit(resource, std::min<uint64_t>(value, now.rlim_max));
}

int set_limits(const EnclosureLimits& limits, bool own_user) {
  // Threads are counted for a user: without a user namespace, those of all helpers together.
  const int threads = own_user ? lower(RLIMIT_NPROC, limits.threads) : 0;
  for (const int error :
       {limit(RLIMIT_CORE, 0), limit(RLIMIT_FSIZE, limits.file_bytes),
        lower(RLIMIT_NOFILE, limits.open_files), threads, limit(RLIMIT_MSGQUEUE, 0),
        limit(RLIMIT_NICE, 0), limit(RLIMIT_RTPRIO, 0)}) {
    if (error != 0) {
      return error;
    }
  }
  return 0;
}

}  // namespace

std::string_view name_of(Step step) {
  constexpr std::array<std::string_view, kSteps> kNames = {
      "user_namespace", "mount_namespace", "pid_namespace", "network_namespace", "ipc_namespace",
      "uts_namespace",  "empty_root",      "nobody",        "no_new_privs",      "no_capabilities",
      "landlock",       "resource_limits", "not_dumpable",  "dies_with_parent",  "filter"};
  return kNames[static_cast<size_t>(step)];
}

bool Enclosure::complete() const { return missing().empty(); }

std::string Enclosure::missing() const {
  std::string text;
  for (size_t i = 0; i < kSteps; ++i) {
    const auto step = static_cast<Step>(i);
    if (at(step) != 0) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", std::string(name_of(step)), " (",
                      why_not(*this, step), ")");
    }
  }
  return text;
}

std::string why_not(const Enclosure& enclosure, Step step) {
  const int error = enclosure.at(step);
  const char* why = error == 0 ? "" : ::strerrordesc_np(error);
  return why == nullptr ? absl::StrCat("error ", error) : why;
}

Status limit_file_bytes(uint64_t bytes) {
  return sys::Result{0, limit(RLIMIT_FSIZE, bytes)}.status("setrlimit(RLIMIT_FSIZE)");
}

Status limit_private_bytes(uint64_t bytes) {
#if defined(RAMET_SANITIZED)  // their shadow memory counts
  static_cast<void>(bytes);
  return Status();
#else
  return sys::Result{0, limit(RLIMIT_DATA, bytes)}.status("setrlimit(RLIMIT_DATA)");
#endif
}

Status limit_cpu_time(uint64_t seconds) {
  return seconds == 0 ? Status()
                      : sys::Result{0, limit(RLIMIT_CPU, seconds)}.status("setrlimit(RLIMIT_CPU)");
}

Enclosure enclose_self(Enclosure given, const EnclosureLimits& limits) {
  Enclosure all = given;
  // With its parent: also where the parent died before this call, for then the socket has closed.
  all.at(Step::kDiesWithParent) =
      error_of([] { return ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); });
  all.at(Step::kEmptyRoot) =
      given.at(Step::kMountNamespace) != 0 ? given.at(Step::kMountNamespace) : empty_root();
  // In a user namespace it already is; without, root must not stay root.
  if (given.at(Step::kUserNamespace) != 0) {
    all.at(Step::kNobody) = ::geteuid() == 0 ? become_nobody() : 0;
    // Which a change of user forgets.
    error_of([] { return ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); });
  }
  all.at(Step::kNoNewPrivileges) =
      error_of([] { return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); });
  all.at(Step::kNoCapabilities) = drop_capabilities();
  all.at(Step::kLandlock) = deny_all_files();
  all.at(Step::kResourceLimits) = set_limits(limits, given.at(Step::kUserNamespace) == 0);
  all.at(Step::kNotDumpable) = error_of([] { return ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); });
  return all;
}

}  // namespace ramet::jail
