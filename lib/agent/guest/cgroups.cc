#include "lib/agent/guest/cgroups.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace ramet::guest {

Cgroups::Cgroups(std::string parent) : parent_(std::move(parent)) {
  if (!parent_.empty() && ::mkdir(parent_.c_str(), 0755) != 0 && errno != EEXIST) {
    parent_.clear();
  }
  // On a plain folder this file is missing: then there is no cgroup2 here.
  if (!parent_.empty() && ::access((parent_ + "/cgroup.procs").c_str(), W_OK) != 0) {
    parent_.clear();
  }
}

void Cgroups::prepare() {
  if (parent_.empty() || !spare_.empty()) {
    return;
  }
  sweep();
  std::string folder = parent_ + "/exec-" + std::to_string(next_++);
  if (::mkdir(folder.c_str(), 0755) == 0) {
    spare_ = std::move(folder);
  }
}

std::string Cgroups::take() {
  prepare();
  return std::exchange(spare_, {});
}

void Cgroups::remove(const std::string& folder) {
  if (!folder.empty() && ::rmdir(folder.c_str()) != 0 && errno == EBUSY) {
    leftover_.push_back(folder);
  }
}

void Cgroups::sweep() {
  std::erase_if(leftover_, [](const std::string& folder) {
    return ::rmdir(folder.c_str()) == 0 || errno != EBUSY;
  });
}

UniqueFd ExecCgroup::open_procs() const {
  if (folder_.empty()) {
    return UniqueFd();
  }
  return UniqueFd(::open((folder_ + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
}

bool ExecCgroup::kill() const {
  if (folder_.empty()) {
    return false;
  }
  const UniqueFd fd(::open((folder_ + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC));
  return fd.valid() && ::write(fd.get(), "1", 1) == 1;
}

}  // namespace ramet::guest
