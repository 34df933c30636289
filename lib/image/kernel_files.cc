#include "lib/image/kernel_files.h"

#include <string.h>

#include <string_view>

#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include "lib/image/files.h"

namespace ramet {
namespace {

constexpr std::string_view kImagePrefix = "vmlinuz-";
constexpr char kAdvice[] =
    "name a kernel image and the tree that \"dpkg -x\" makes of its package, or install "
    "linux-image-cloud-amd64";

// "/" becomes "", so that paths below it have one slash.
std::string base_of(const std::string& tree) {
  std::string base = without_end_slash(tree);
  return base == "/" ? std::string() : base;
}

std::vector<std::string> module_folders(const std::string& base) {
  return {base + "/lib/modules", base + "/usr/lib/modules"};
}

// Empty where there is none.
std::string modules_of(const std::string& base, const std::string& release) {
  for (const std::string& above : module_folders(base)) {
    std::string folder = above + "/" + release;
    if (is_folder(folder)) {
      return folder;
    }
  }
  return {};
}

// The release in an image's name; empty where it has none.
std::string release_in(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return std::string(name.starts_with(kImagePrefix) ? name.substr(kImagePrefix.size()) : "");
}

// The release that is alone in having modules; empty where there are none or several.
std::string only_release(const std::string& base) {
  for (const std::string& above : module_folders(base)) {
    const auto names = list_folder(above);
    if (names.ok() && names->size() == 1) {
      return names->front();
    }
  }
  return {};
}

StatusOr<KernelFiles> newest_in(const std::string& base) {
  const std::string boot = base + "/boot";
  const auto names = list_folder(boot);
  if (!names.ok()) {
    return absl::NotFoundError(
        absl::StrFormat("no kernel: %s; %s", std::string(names.status().message()), kAdvice));
  }
  KernelFiles best;
  std::vector<std::string> without_modules;
  for (const std::string& name : *names) {
    const std::string release = release_in(name);
    const KernelFiles found{boot + "/" + name, modules_of(base, release), release};
    if (release.empty() || !is_regular_file(found.image)) {
      continue;
    }
    if (found.modules.empty()) {
      without_modules.push_back(name);
    } else if (best.image.empty() || ::strverscmp(release.c_str(), best.release.c_str()) > 0) {
      best = found;
    }
  }
  if (best.image.empty()) {
    return absl::NotFoundError(absl::StrFormat(
        "no kernel with modules: looked at the %d files of %s for %sRELEASE (found without "
        "modules: %s) and in %s for RELEASE; %s",
        names->size(), boot, std::string(kImagePrefix),
        without_modules.empty() ? "none" : absl::StrJoin(without_modules, ", "),
        absl::StrJoin(module_folders(base), " and "), kAdvice));
  }
  return best;
}

// Trees that may hold the modules of `image`, which lies at `place` when links are followed: its
// own (what "boot" lies in), then this host.
std::vector<std::string> bases_for(const std::string& place) {
  constexpr std::string_view kBoot = "/boot";
  const std::string folder = place.substr(0, place.rfind('/'));
  std::vector<std::string> bases;
  if (folder.ends_with(kBoot)) {
    bases.push_back(folder.substr(0, folder.size() - kBoot.size()));
  }
  if (bases.empty() || !bases.front().empty()) {
    bases.emplace_back();
  }
  return bases;
}

}  // namespace

StatusOr<KernelFiles> find_kernel(const std::string& image, const std::string& tree) {
  if (image.empty()) {
    return newest_in(base_of(tree));
  }
  const auto place = resolve_path(image);
  if (!place.ok()) {
    return annotate(place.status(), "kernel image %s", image);
  }
  const auto bases = tree.empty() ? bases_for(*place) : std::vector{base_of(tree)};
  std::vector<std::string> looked;
  for (const std::string& base : bases) {
    // A link's own name counts where that of its target says nothing.
    for (const std::string& release :
         {release_in(*place), release_in(image), tree.empty() ? "" : only_release(base)}) {
      if (release.empty()) {
        continue;
      }
      if (std::string modules = modules_of(base, release); !modules.empty()) {
        return KernelFiles{image, modules, release};
      }
      for (const std::string& above : module_folders(base)) {
        looked.push_back(above + "/" + release);
      }
    }
  }
  return absl::NotFoundError(absl::StrFormat(
      "no modules for kernel image %s: looked for %s; name the tree that \"dpkg -x\" makes of its "
      "package (boot/%sRELEASE beside lib/modules/RELEASE)",
      image,
      looked.empty() ? absl::StrFormat("a release in its name and in lib/modules of \"%s\"", tree)
                     : absl::StrJoin(looked, ", "),
      std::string(kImagePrefix)));
}

StatusOr<std::vector<std::byte>> read_kernel_image(const std::string& path) {
  auto bytes = read_whole_file(path, kMaxKernelBytes);
  if (!bytes.ok()) {
    return annotate(bytes.status(), "kernel image");
  }
  if (bytes->empty()) {
    return absl::InvalidArgumentError(absl::StrFormat("kernel image %s is empty", path));
  }
  return bytes;
}

}  // namespace ramet
