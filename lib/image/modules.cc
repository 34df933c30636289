#include "lib/image/modules.h"

#include <algorithm>
#include <array>
#include <utility>

#include <absl/strings/str_format.h>

#include "lib/image/files.h"
#include "lib/image/tool.h"
#include "lib/image/xz.h"

namespace ramet {
namespace {

constexpr std::string_view kLayout = "lib/modules/";

// depmod takes the folder above lib/modules and the release.
StatusOr<std::string> ask_depmod(const std::string& folder) {
  const size_t slash = folder.rfind('/');
  const std::string release = folder.substr(slash + 1);
  const std::string above = folder.substr(0, slash + 1);
  if (!above.ends_with(kLayout)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has no modules.dep, and depmod can only make one for a folder called "
                        "lib/modules/RELEASE",
                        folder));
  }
  ToolRun run;
  run.name = "depmod";
  run.package = "kmod";
  // /dev/null: the host's depmod.d is about the host.
  run.arguments = {
      "-n", "-C", "/dev/null", "-b", above.substr(0, above.size() - kLayout.size()) + ".", release};
  run.max_output_bytes = kMaxModuleIndexBytes;
  return run_tool(run);
}

StatusOr<std::string> depmod_text(const std::string& folder) {
  auto text = read_text_file(folder + "/modules.dep", kMaxModuleIndexBytes);
  if (text.status().code() == absl::StatusCode::kNotFound || (text.ok() && text->empty())) {
    return ask_depmod(folder);
  }
  RAMET_RETURN_IF_ERROR(text.status());
  for (const char* name : {"/modules.softdep", "/modules.alias"}) {
    const auto more = read_text_file(folder + name, kMaxModuleIndexBytes);
    if (more.ok()) {
      *text += "\n" + *more;
    } else if (more.status().code() != absl::StatusCode::kNotFound) {
      return more.status();
    }
  }
  return text;
}

bool is_elf(const std::vector<std::byte>& bytes) {
  constexpr std::array<std::byte, 4> kMagic = {std::byte{0x7f}, std::byte{'E'}, std::byte{'L'},
                                               std::byte{'F'}};
  return bytes.size() >= 64 && std::ranges::equal(std::span(bytes).first(4), kMagic);
}

StatusOr<std::vector<std::byte>> read_module(const std::string& path) {
  RAMET_ASSIGN_OR_RETURN(auto bytes, read_whole_file(path, kMaxModuleBytes));
  if (path.ends_with(".xz")) {
    auto unpacked = unpack_xz(bytes, kMaxModuleBytes);
    if (!unpacked.ok()) {
      return annotate(unpacked.status(), "module %s", path);
    }
    bytes = *std::move(unpacked);
  } else if (!path.ends_with(".ko")) {
    return absl::UnimplementedError(
        absl::StrFormat("module %s: only .ko and .ko.xz can be read", path));
  }
  if (!is_elf(bytes)) {
    return absl::DataLossError(
        absl::StrFormat("module %s: %d bytes that are no ELF file", path, bytes.size()));
  }
  return bytes;
}

}  // namespace

StatusOr<ModuleIndex> read_module_index(const std::string& modules_folder) {
  const std::string folder = without_end_slash(modules_folder);
  if (!is_folder(folder)) {
    return absl::NotFoundError(absl::StrFormat("no folder of kernel modules at %s", folder));
  }
  RAMET_ASSIGN_OR_RETURN(const std::string text, depmod_text(folder));
  auto builtin = read_text_file(folder + "/modules.builtin", kMaxModuleIndexBytes);
  if (!builtin.ok() && builtin.status().code() != absl::StatusCode::kNotFound) {
    return builtin.status();
  }
  auto index = ModuleIndex::parse(text, builtin.ok() ? *builtin : std::string());
  return index.ok() ? std::move(index) : annotate(index.status(), folder);
}

StatusOr<std::vector<LoadableModule>> collect_modules(const std::string& modules_folder,
                                                      const std::vector<std::string>& needed,
                                                      const std::vector<std::string>& wanted) {
  const std::string folder = without_end_slash(modules_folder);
  RAMET_ASSIGN_OR_RETURN(const ModuleIndex index, read_module_index(folder));
  auto order = index.load_order(needed, wanted);
  if (!order.ok()) {
    return annotate(order.status(), folder);
  }
  std::vector<LoadableModule> modules;
  for (const ModuleStep& step : *order) {
    auto elf = read_module(folder + "/" + step.path);
    if (elf.ok()) {
      modules.push_back({module_name(step.path), step.may_fail, *std::move(elf)});
    } else if (!step.may_fail) {
      return elf.status();
    }
  }
  return modules;
}

}  // namespace ramet
