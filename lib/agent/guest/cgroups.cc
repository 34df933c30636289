#include "lib/agent/guest/cgroups.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "lib/agent/guest/files.h"
#include "lib/agent/guest/log.h"

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
  if (::mkdir(folder.c_str(), 0755) != 0) {
    log(errno_text("no control group for the next command: make " + folder, errno));
    return;
  }
  spare_ = std::move(folder);
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

bool Cgroups::freeze() {
  if (parent_.empty() || !write_file(parent_ + "/cgroup.freeze", "1")) {
    return false;
  }
  for (int tenths = 0; tenths < 10 * kFreezeWithinMs; ++tenths) {
    const auto events = read_file(parent_ + "/cgroup.events");
    if (events && events->find("frozen 1") != std::string::npos) {
      return true;
    }
    ::usleep(100);
  }
  thaw();
  return false;
}

void Cgroups::thaw() {
  if (!parent_.empty() && !write_file(parent_ + "/cgroup.freeze", "0")) {
    log(errno_text("thaw " + parent_, errno));
  }
}

// The groups' parent is a child of the hierarchy's root: "0::/ramet/exec-1" (cgroup-v2.rst).
bool Cgroups::holds(uint32_t pid) const {
  const size_t slash = parent_.rfind('/');
  const auto text = read_file("/proc/" + std::to_string(pid) + "/cgroup");
  if (slash == std::string::npos || !text) {
    return false;
  }
  const std::string ours = "0::" + parent_.substr(slash) + "/";
  std::string_view rest = *text;
  while (!rest.empty()) {
    if ((std::string(cut(rest, '\n')) + "/").starts_with(ours)) {
      return true;
    }
  }
  return false;
}

void Cgroups::sweep() {
  std::erase_if(leftover_, [](const std::string& folder) {
    return ::rmdir(folder.c_str()) == 0 || errno != EBUSY;
  });
}

UniqueFd ExecCgroup::open_folder() const {
  if (folder_.empty()) {
    return UniqueFd();
  }
  UniqueFd folder(::open(folder_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) {
    log(errno_text("a command runs in no control group: open " + folder_, errno));
  }
  return folder;
}

bool ExecCgroup::kill() const {
  if (folder_.empty()) {
    return false;
  }
  const UniqueFd fd(::open((folder_ + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC));
  return fd.valid() && ::write(fd.get(), "1", 1) == 1;
}

}  // namespace ramet::guest
