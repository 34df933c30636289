// Cgroup: a control group of version 2 for each helper process
// (Documentation/admin-guide/cgroup-v2.rst), below a directory that is the embedder's to make them
// in.
//
// Thread rule: Cgroups::open(), make() and sweep() on threads without a filter, one at a time; the
// rest from any thread. A Cgroups outlives what it made.
// Invariant: the directory of a group that is no more is removed by the next sweep(), at the latest
// by that of another process with the same parent: each holds a lock on its directory for as long
// as it lives.
#ifndef RAMET_VMM_JAIL_CGROUP_H_
#define RAMET_VMM_JAIL_CGROUP_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet::jail {

enum class Controller : uint8_t { kCpu, kMemory, kPids, kIo };
inline constexpr std::array kControllers = {Controller::kCpu, Controller::kMemory,
                                            Controller::kPids, Controller::kIo};
std::string_view name_of(Controller controller);

// Why a controller is not there; empty where it is.
struct ControllersGiven {
  std::array<std::string, kControllers.size()> why = {};

  std::string& at(Controller controller) { return why[static_cast<size_t>(controller)]; }
  const std::string& at(Controller controller) const {
    return why[static_cast<size_t>(controller)];
  }
  bool has(Controller controller) const { return at(controller).empty(); }
  // "cpu (it is not among its controllers)"; empty where all are there.
  std::string missing() const;
};

// 0: no limit.
struct CgroupLimits {
  uint64_t memory_bytes = 0;           // memory.max, of all that the group's processes have touched
  uint64_t cpu_ns_per_second = 0;      // cpu.max
  uint64_t io_bytes_per_second = 0;    // io.max, of reads and of writes, on each device
  std::vector<dev_t> io_devices = {};  // where the files lie that it reads and writes
};

class Cgroups;

class Cgroup {
 public:
  // Its processes must have ended.
  ~Cgroup();
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;

  // cgroup.procs, for writing: SpawnSpec::cgroup_procs.
  int procs() const { return procs_.get(); }
  // What its controllers can hold; those that are not there are left out. Before the limited
  // process has work to do.
  Status limit(const CgroupLimits& limits);
  // How many of its processes were killed for its memory limit so far. On any thread that may
  // pread(2).
  StatusOr<uint64_t> oom_kills() const;

 private:
  friend class Cgroups;
  Cgroup(Cgroups* parent, std::string name) : parent_(*parent), name_(std::move(name)) {}
  Status open_files();
  Status set(const char* file, const std::string& value) const;

  Cgroups& parent_;
  const std::string name_;
  UniqueFd directory_;  // locked (flock(2))
  UniqueFd procs_;
  UniqueFd memory_events_;
};

class Cgroups {
 public:
  // `path`: a directory of a cgroup2 file system, in which this process may make others and no
  // process lives. FailedPrecondition where it is not, with what to do; controllers that cannot be
  // had are in given().
  static StatusOr<std::unique_ptr<Cgroups>> open(const std::string& path);
  // Removes what is left of its own groups.
  ~Cgroups();
  Cgroups(const Cgroups&) = delete;
  Cgroups& operator=(const Cgroups&) = delete;

  const std::string& path() const { return path_; }
  const ControllersGiven& given() const { return given_; }
  // `function` is called when there is something for sweep() to do; it must be quick.
  void on_ended(std::function<void()> function);

  // A group for at most `threads` threads, all of which the kernel kills together where their
  // memory is too much.
  StatusOr<std::unique_ptr<Cgroup>> make(uint64_t threads);
  // Removes the directories of groups that ended.
  void sweep();

 private:
  friend class Cgroup;
  explicit Cgroups(std::string path) : path_(std::move(path)) {}
  Status enable_controllers();
  void remove_abandoned();
  void ended(std::string name);

  const std::string path_;
  UniqueFd directory_;
  ControllersGiven given_;
  std::function<void()> on_ended_;
  std::mutex mutex_;
  std::vector<std::string> ended_;
};

}  // namespace ramet::jail

#endif  // RAMET_VMM_JAIL_CGROUP_H_
