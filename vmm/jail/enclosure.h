// Enclosure: what stands around a helper process besides its filters, as a list of steps, each of
// which this host grants or not.
//
// Thread rule: plain values; enclose_self() in a process of one thread, before it reads anything of
// a guest's.
// Invariant: a step counts as taken only when the kernel said so. Steps that are not granted leave
// the others in place.
#ifndef RAMET_VMM_JAIL_ENCLOSURE_H_
#define RAMET_VMM_JAIL_ENCLOSURE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/status.h"

namespace ramet::jail {

enum class Step : uint8_t {
  kUserNamespace,     // its user is nobody outside, its capabilities are worth nothing there
  kMountNamespace,    //
  kPidNamespace,      // it sees no process but itself
  kNetworkNamespace,  // it has no interface but a loopback that is down
  kIpcNamespace,      //
  kUtsNamespace,      //
  kEmptyRoot,         // its root directory is empty and read-only
  kNobody,            // its user outside is not the embedder's, where that is root
  kNoNewPrivileges,   // prctl(PR_SET_NO_NEW_PRIVS)
  kNoCapabilities,    // none, in any set
  kLandlock,          // no file can be opened, by name, at all
  kResourceLimits,    // setrlimit(2)
  kNotDumpable,       // no core dump, no ptrace, no /proc files of others
  kDiesWithParent,    // prctl(PR_SET_PDEATHSIG)
  kFilter,            // a forbidden system call kills it (seccomp(2))
};
inline constexpr size_t kSteps = 15;
std::string_view name_of(Step step);

// errno of each step; 0: taken.
struct Enclosure {
  std::array<int32_t, kSteps> errors = {};

  int32_t& at(Step step) { return errors[static_cast<size_t>(step)]; }
  int32_t at(Step step) const { return errors[static_cast<size_t>(step)]; }
  bool complete() const;
  // "empty_root (Operation not permitted), landlock (Function not implemented)"; empty when
  // complete.
  std::string missing() const;
};

struct EnclosureLimits {
  uint64_t open_files = 512;
  uint64_t file_bytes = 0;  // the largest file that it may write; 0: none
  uint64_t threads = 64;
};

// The kernel's word for why a step was not taken; empty where it was.
std::string why_not(const Enclosure& enclosure, Step step);

// Every step but the namespaces, which the spawning process gives, and the filter. `given` says
// which of those were taken; what depends on one that was not is not tried. The result holds both.
Enclosure enclose_self(Enclosure given, const EnclosureLimits& limits);

// Lowers what the largest file may be that this process writes, once that is known.
Status limit_file_bytes(uint64_t bytes);
// The same for all memory that it maps to write to, guest memory included (RLIMIT_DATA).
Status limit_private_bytes(uint64_t bytes);
// The same for the processor time of all its threads (RLIMIT_CPU); 0: no limit. The kernel kills
// it.
Status limit_cpu_time(uint64_t seconds);

// Landlock (Documentation/userspace-api/landlock.rst): a ruleset that handles every access of this
// kernel's version, and no rule: nothing is granted. The errno, or 0. Needs no_new_privs.
int deny_all_files();

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_ENCLOSURE_H_
