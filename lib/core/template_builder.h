// build_template: boots a kernel, waits for the agent, runs the warm-up, freezes the guest.
//
// Thread rule: from any thread, several at once.
// Invariant: the machine is gone when it returns; nothing is left behind where it fails. A guest in
// which anything but the agent lives is not frozen.
#ifndef RAMET_LIB_CORE_TEMPLATE_BUILDER_H_
#define RAMET_LIB_CORE_TEMPLATE_BUILDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/core/engine.h"
#include "lib/core/template_data.h"
#include "vmm/base/status.h"

namespace ramet {

struct BuildSpec {
  std::string kernel_image;
  std::string kernel_tree;
  std::string rootfs;
  std::vector<std::vector<std::string>> warmups;
  uint64_t memory_bytes = 0;
  uint32_t vcpus = 1;
  uint64_t scratch_bytes = 0;
  uint64_t boot_timeout_ns = 0;
  uint64_t warmup_timeout_ns = 0;
  std::string extra_command_line;
  std::function<void(std::string_view)> console;
  std::function<void(std::string_view step, uint32_t done, uint32_t total)> progress;
  // Forks it to find out which pages its forks touch first. None: nobody looks.
  std::function<StatusOr<WorkingSet>(const TemplateData&)> train;
};

StatusOr<std::shared_ptr<const TemplateData>> build_template(Engine* engine, BuildSpec spec);

// OK when this host can run forks of the template; FailedPrecondition with reason incompatible when
// not.
Status check_fits(const Engine& engine, const TemplateData& data);

// The environment of a command that brings none.
std::vector<std::string> default_environment();

}  // namespace ramet

#endif  // RAMET_LIB_CORE_TEMPLATE_BUILDER_H_
