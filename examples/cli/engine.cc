#include "examples/cli/engine.h"

#include "examples/cli/output.h"
#include "examples/cli/table.h"

namespace cli {

absl::StatusOr<std::shared_ptr<sandbox::Engine>> make_engine(const Arguments& arguments) {
  sandbox::EngineOptions options;
  if (!arguments.kvm_device.empty()) {
    options.kvm_device = arguments.kvm_device;
  }
  options.helper_cgroup = arguments.cgroup;
  // Disks of forks lie where temporary files do.
  if (const auto temporary = environment_variable("TMPDIR"); temporary && !temporary->empty()) {
    options.scratch_directory = *temporary;
  }
  options.log = [](sandbox::LogLevel level, std::string_view line) {
    if (level >= sandbox::LogLevel::kWarning) {
      print_err("ramet: " + printable(line) + "\n");
    }
  };
  return sandbox::Engine::create(std::move(options));
}

}  // namespace cli
