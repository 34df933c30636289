// spawn: a new process that runs a program from a descriptor, in namespaces of its own, with
// nothing but the descriptors that it is given.
//
// Thread rule: from a thread without a filter that lives as long as the process shall: the kernel
// kills the new process when the thread that made it ends (PR_SET_PDEATHSIG, prctl(2)).
// Invariant: no signal tells of the process's end, and the embedder's own wait calls never see it
// (__WALL apart): its pidfd is the one handle. Where spawn() fails no process is left.
#ifndef RAMET_VMM_JAIL_SPAWN_H_
#define RAMET_VMM_JAIL_SPAWN_H_

#include <cstdint>
#include <span>
#include <string>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/jail/enclosure.h"

namespace ramet::jail {

struct SpawnSpec {
  int program = -1;                   // an executable file
  const char* name = "ramet-helper";  // argv[0]; argv[1] is for namespaces_of()
  const char* argument = nullptr;     // argv[2]; null: none
  std::span<const int> files = {};    // become its descriptors 3, 4, ...; 0 to 2 are /dev/null
  int cgroup_procs = -1;              // cgroup.procs of the group that it begins in; -1: ours
};
inline constexpr int kFirstSpawnedFile = 3;
inline constexpr size_t kMaxSpawnedFiles = 8;

struct SpawnedProcess {
  UniqueFd pidfd;
  Enclosure enclosure;  // the namespaces, and whether its user is nobody; the rest is its own work
};

// In the new process: what its namespaces are, from its argv[1].
Enclosure namespaces_of(const char* argument);

// Where this host grants no user namespace it is tried without, as root; then without any
// namespace.
StatusOr<SpawnedProcess> spawn(const SpawnSpec& spec);

// Kills a spawned process. Any thread, any number of times; nothing happens once it has ended.
void kill_process(int pidfd);

struct ProcessEnd {
  int exit_code = 0;
  int signal = 0;       // 0: it exited
  uint64_t cpu_ns = 0;  // that all its threads used
};
// Waits until the process has ended, all that it held is given back, and says how. Once.
StatusOr<ProcessEnd> wait_process(int pidfd);

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_SPAWN_H_
