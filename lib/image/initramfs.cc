#include "lib/image/initramfs.h"

#include <algorithm>
#include <array>

#include <absl/strings/str_format.h>

#include "lib/image/cpio.h"
#include "lib/image/modules.h"
#include "lib/image/root_tree.h"

namespace ramet {
namespace {

constexpr uint32_t kProgram = 0755;
// Linux, Documentation/admin-guide/devices.txt: 5:1 is /dev/console. The kernel opens it for init
// before init can mount devtmpfs.
constexpr uint32_t kConsoleMajor = 5;
constexpr uint32_t kConsoleMinor = 1;

// Where lib/agent/guest/boot.h looks.
constexpr char kModuleList[] = "ramet/modules";
constexpr char kModuleFolder[] = "ramet/ko";

Status check_agent(std::span<const std::byte> agent) {
  constexpr std::array<std::byte, 4> kMagic = {std::byte{0x7f}, std::byte{'E'}, std::byte{'L'},
                                               std::byte{'F'}};
  if (agent.size() < 64 || !std::ranges::equal(agent.first(4), kMagic)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("initramfs: the agent's %d bytes are no ELF program", agent.size()));
  }
  return Status();
}

Status add_modules(CpioWriter& writer, const InitramfsSpec& spec) {
  if (spec.modules_folder.empty()) {
    return Status();
  }
  RAMET_ASSIGN_OR_RETURN(
      const auto modules,
      collect_modules(spec.modules_folder, spec.needed_modules, spec.wanted_modules));
  std::string list;
  for (const LoadableModule& module : modules) {
    const std::string path = absl::StrFormat("%s/%s.ko", kModuleFolder, module.name);
    RAMET_RETURN_IF_ERROR(writer.add_file(path, module.elf));
    list += absl::StrFormat("%s/%s\n", module.may_fail ? "?" : "", path);
  }
  return writer.add_file(kModuleList, std::as_bytes(std::span(list)));
}

}  // namespace

StatusOr<std::vector<std::byte>> build_initramfs(const InitramfsSpec& spec) {
  RAMET_RETURN_IF_ERROR(check_agent(spec.agent));
  CpioWriter writer;
  if (!spec.root_tree.empty()) {
    RAMET_RETURN_IF_ERROR(add_root_tree(writer, spec.root_tree));
  }
  RAMET_RETURN_IF_ERROR(writer.add_file("init", spec.agent, kProgram));
  for (const char* folder : {"dev", "proc", "run", "sys"}) {
    RAMET_RETURN_IF_ERROR(writer.add_folder(folder));
  }
  RAMET_RETURN_IF_ERROR(
      writer.add_character_device("dev/console", kConsoleMajor, kConsoleMinor, 0600));
  RAMET_RETURN_IF_ERROR(add_modules(writer, spec));
  return writer.finish();
}

}  // namespace ramet
