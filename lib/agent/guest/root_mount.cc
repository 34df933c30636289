#include "lib/agent/guest/root_mount.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "lib/agent/guest/log.h"

namespace ramet::guest {
namespace {

constexpr char kLower[] = "/ramet/lower";
constexpr char kScratch[] = "/ramet/scratch";
constexpr char kRoot[] = "/ramet/root";
constexpr char kOverlayOptions[] =
    "lowerdir=/ramet/lower,upperdir=/ramet/scratch/upper,workdir=/ramet/scratch/work";

struct RootType {
  const char* name;
  const char* data;
};
// ext4: the disk is read-only, so a journal cannot be replayed; without noload the mount fails.
constexpr std::array<RootType, 3> kRootTypes = {
    {{"erofs", nullptr}, {"ext4", "noload"}, {"squashfs", nullptr}}};

std::string wait_for_disk(const char* path) {
  for (int waited_ms = 0; ::access(path, F_OK) != 0; ++waited_ms) {
    if (waited_ms == kDiskWaitMs) {
      return std::string("no root disk: ") + path + " did not appear within " +
             std::to_string(kDiskWaitMs) + " ms";
    }
    ::usleep(1000);
  }
  return {};
}

std::string mount_lower() {
  std::string tried;
  for (const RootType& type : kRootTypes) {
    if (::mount(kRootDisk, kLower, type.name, MS_RDONLY | MS_NOATIME, type.data) == 0) {
      return {};
    }
    tried += std::string(tried.empty() ? "" : "; ") + errno_text(type.name, errno);
  }
  return std::string("mount the root disk ") + kRootDisk + ": " + tried;
}

std::string mount_scratch() {
  const bool on_disk = ::access(kScratchDisk, F_OK) == 0;
  const char* type = on_disk ? "ext4" : "tmpfs";
  const char* source = on_disk ? kScratchDisk : "tmpfs";
  if (::mount(source, kScratch, type, MS_NOATIME, on_disk ? "noinit_itable" : "mode=0755") != 0) {
    return errno_text(std::string("mount ") + source + " as " + type + " for scratch", errno);
  }
  const bool made = (::mkdir("/ramet/scratch/upper", 0755) == 0 || errno == EEXIST) &&
                    (::mkdir("/ramet/scratch/work", 0755) == 0 || errno == EEXIST);
  return made ? std::string() : errno_text("make upper and work on scratch", errno);
}

std::string move_mounts() {
  for (const char* name : {"/proc", "/sys", "/dev", "/run"}) {
    const std::string target = std::string(kRoot) + name;
    ::mkdir(target.c_str(), 0755);
    if (::mount(name, target.c_str(), nullptr, MS_MOVE, nullptr) != 0) {
      return errno_text(std::string("move ") + name + " to the new root", errno);
    }
  }
  return {};
}

// As switch_root(8): the initramfs itself cannot be unmounted, so the new root is moved over it.
std::string change_root() {
  if (::chdir(kRoot) != 0 || ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 ||
      ::chroot(".") != 0 || ::chdir("/") != 0) {
    return errno_text("enter the new root", errno);
  }
  return {};
}

}  // namespace

std::string enter_disk_root() {
  if (std::string trouble = wait_for_disk(kRootDisk); !trouble.empty()) {
    return trouble;
  }
  for (const char* folder : {"/ramet", kLower, kScratch, kRoot}) {
    ::mkdir(folder, 0755);
  }
  if (std::string trouble = mount_lower(); !trouble.empty()) {
    return trouble;
  }
  if (std::string trouble = mount_scratch(); !trouble.empty()) {
    return trouble;
  }
  if (::mount("overlay", kRoot, "overlay", MS_NOATIME, kOverlayOptions) != 0) {
    return errno_text("mount the overlay root", errno);
  }
  if (std::string trouble = move_mounts(); !trouble.empty()) {
    return trouble;
  }
  return change_root();
}

}  // namespace ramet::guest
