// Cgroups and ExecCgroup: one cgroup v2 per command, so that a kill reaches descendants that left
// the process group.
//
// Thread rule: one thread.
// Invariant: a group's folder is removed once its last process is gone, at the latest when the next
// group is made.
#ifndef RAMET_LIB_AGENT_GUEST_CGROUPS_H_
#define RAMET_LIB_AGENT_GUEST_CGROUPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/unique_fd.h"

namespace ramet::guest {

// A process that waits for a disk stops when it has what it waits for.
inline constexpr int kFreezeWithinMs = 5000;

class Cgroups {
 public:
  // `parent` is a folder of a mounted cgroup2 that is ours, made when missing; empty or unusable:
  // commands run without a group.
  explicit Cgroups(std::string parent);

  // Whether commands have groups.
  bool usable() const { return !parent_.empty(); }
  // Makes the next group ahead of need: making one costs the kernel more than the rest of starting
  // a command, and a template keeps the one made before its freeze for the first exec of each fork.
  void prepare();
  // A new group's folder; empty without cgroup2.
  std::string take();
  // Stops every process of every group, and says whether all have: kFreezeWithinMs at most. False
  // without cgroup2, too.
  bool freeze();
  void thaw();
  // Whether this process is in one of the groups.
  bool holds(uint32_t pid) const;
  // Removes the folder now or, while a process is in it, later.
  void remove(const std::string& folder);

 private:
  void sweep();

  std::string parent_;
  std::string spare_;
  uint64_t next_ = 1;
  std::vector<std::string> leftover_;
};

class ExecCgroup {
 public:
  explicit ExecCgroup(Cgroups& cgroups) : cgroups_(cgroups), folder_(cgroups.take()) {}
  ~ExecCgroup() { cgroups_.remove(folder_); }
  ExecCgroup(const ExecCgroup&) = delete;
  ExecCgroup& operator=(const ExecCgroup&) = delete;

  // The group's folder. Not valid without a group.
  UniqueFd open_folder() const;
  // SIGKILL to every member (cgroup.kill, Linux >= 5.14). False when it could not be asked.
  bool kill() const;

 private:
  Cgroups& cgroups_;
  const std::string folder_;
};

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_CGROUPS_H_
