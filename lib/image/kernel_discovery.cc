#include "lib/image/kernel_discovery.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <string_view>

#include <absl/strings/str_format.h>

#include "lib/image/files.h"
#include "vmm/base/syscall.h"

namespace ramet {
namespace {

constexpr std::string_view kImagePrefix = "vmlinuz-";

std::string modules_of(const std::string& tree, const std::string& release) {
  for (const char* above : {"/lib/modules/", "/usr/lib/modules/"}) {
    std::string folder = tree + above + release;
    if (is_folder(folder)) {
      return folder;
    }
  }
  return {};
}

bool is_better(const KernelFiles& a, const KernelFiles& b) {
  if (a.modules_folder.empty() != b.modules_folder.empty()) {
    return b.modules_folder.empty();
  }
  return ::strverscmp(a.release.c_str(), b.release.c_str()) > 0;
}

Status check_image(const KernelFiles& kernel) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, sys::open(kernel.image, O_RDONLY));
  struct stat info = {};
  RAMET_RETURN_IF_ERROR(
      sys::fstat(fd.get(), &info).status(absl::StrFormat("stat %s", kernel.image)));
  if (!S_ISREG(info.st_mode) || info.st_size == 0) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "kernel image %s is no regular file or empty (%d bytes)", kernel.image, info.st_size));
  }
  return Status();
}

// "/" becomes "", so that paths below it have one slash.
std::string base_of(const std::string& tree) {
  std::string base = without_end_slash(tree);
  return base == "/" ? std::string() : base;
}

}  // namespace

StatusOr<KernelFiles> find_kernel(const std::string& tree) {
  const std::string base = base_of(tree);
  const std::string boot = base + "/boot";
  const auto names = list_folder(boot);
  if (!names.ok()) {
    return annotate(names.status(), absl::StrFormat("find a kernel below %s", tree));
  }
  KernelFiles best;
  for (const std::string& name : *names) {
    if (!name.starts_with(kImagePrefix) || name.size() == kImagePrefix.size()) {
      continue;
    }
    const std::string release = name.substr(kImagePrefix.size());
    const KernelFiles found{release, boot + "/" + name, modules_of(base, release)};
    if (best.image.empty() || is_better(found, best)) {
      best = found;
    }
  }
  if (best.image.empty()) {
    return absl::NotFoundError(absl::StrFormat("no %sRELEASE among the %d files of %s",
                                               std::string(kImagePrefix), names->size(), boot));
  }
  RAMET_RETURN_IF_ERROR(check_image(best));
  return best;
}

StatusOr<KernelFiles> find_host_kernel() {
  utsname names = {};
  ::uname(&names);
  const std::string release = names.release;
  KernelFiles running{release, "/boot/" + std::string(kImagePrefix) + release,
                      modules_of("", release)};
  if (!running.modules_folder.empty() && check_image(running).ok()) {
    return running;
  }
  return find_kernel("/");
}

}  // namespace ramet
