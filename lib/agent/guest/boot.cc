#include "lib/agent/guest/boot.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "lib/agent/guest/files.h"
#include "lib/agent/guest/kernel.h"
#include "lib/agent/guest/log.h"
#include "lib/agent/guest/root_mount.h"
#include "vmm/base/unique_fd.h"

namespace ramet::guest {
namespace {

struct MountRow {
  const char* type;
  const char* target;
  unsigned long flags;
  const char* data;
  bool needed;
};

constexpr unsigned long kQuiet = MS_NOSUID | MS_NOEXEC | MS_NODEV;
constexpr std::array<MountRow, 7> kMounts = {{
    {"proc", "/proc", kQuiet, nullptr, true},
    {"sysfs", "/sys", kQuiet, nullptr, true},
    {"devtmpfs", "/dev", MS_NOSUID, "mode=0755", true},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755", true},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666", false},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", false},
    {"cgroup2", "/sys/fs/cgroup", kQuiet, nullptr, false},
}};

std::string mount_kernel_filesystems() {
  for (const MountRow& row : kMounts) {
    ::mkdir(row.target, 0755);
    if (::mount(row.type, row.target, row.type, row.flags, row.data) == 0 || errno == EBUSY) {
      continue;
    }
    std::string trouble = errno_text(std::string("mount ") + row.type + " on " + row.target, errno);
    if (row.needed) {
      return trouble;
    }
    log(trouble);
  }
  return {};
}

// What shells and Python expect beside the nodes of devtmpfs.
void link_devices() {
  (void)!::symlink("/proc/self/fd", "/dev/fd");
  (void)!::symlink("/proc/self/fd/0", "/dev/stdin");
  (void)!::symlink("/proc/self/fd/1", "/dev/stdout");
  (void)!::symlink("/proc/self/fd/2", "/dev/stderr");
}

std::string load_module(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return errno_text("open module " + path, errno);
  }
  if (::syscall(SYS_finit_module, fd.get(), "", 0) != 0 && errno != EEXIST) {
    return errno_text("load module " + path, errno);
  }
  return {};
}

// The module files are removed as they are loaded: the initramfs is memory of every fork.
std::string load_modules() {
  const auto list = read_file(kModuleList);
  if (!list) {
    return {};  // everything is built in
  }
  std::string_view lines = *list;
  while (!lines.empty()) {
    std::string_view path = cut(lines, '\n');
    const bool may_fail = path.starts_with('?');
    path.remove_prefix(may_fail ? 1 : 0);
    if (path.empty()) {
      continue;
    }
    const std::string file(path);
    std::string trouble = load_module(file);
    if (!trouble.empty() && !may_fail) {
      return trouble;
    }
    ::unlink(file.c_str());
  }
  return {};
}

}  // namespace

bool has_word(std::string_view command_line, std::string_view word) {
  while (!command_line.empty()) {
    std::string_view line = cut(command_line, '\n');
    while (!line.empty()) {
      if (cut(line, ' ') == word) {
        return true;
      }
    }
  }
  return false;
}

std::string boot() {
  if (std::string trouble = mount_kernel_filesystems(); !trouble.empty()) {
    return trouble;
  }
  link_devices();
  if (!write_file("/proc/self/oom_score_adj", "-1000")) {
    log(errno_text("set the OOM score", errno));
  }
  if (std::string trouble = load_modules(); !trouble.empty()) {
    return trouble;
  }
  const std::string command_line = read_file("/proc/cmdline").value_or("");
  if (!has_word(command_line, kRootIsInitramfs)) {
    if (std::string trouble = enter_disk_root(); !trouble.empty()) {
      return trouble;
    }
  }
  if (const int error = bring_up_loopback(); error != 0) {
    log(errno_text("bring up the loopback interface", error));
  }
  return {};
}

}  // namespace ramet::guest
