#include "tests/system/sandbox/guest_template.h"

#include <filesystem>
#include <fstream>

#include "tests/support/place.h"

namespace ramet::testing {
namespace {

size_t entries(const std::string& directory) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) {
    ++count;
  }
  return count;
}

}  // namespace

std::string why_no_guest() {
  if (kvm_kind() != KvmKind::kHardware) {
    return "needs KVM with hardware virtualization";
  }
  if (!std::filesystem::exists(kernel_dir("cloud-6.12"))) {
    return "needs the kernels that tests/support/fetch-kernels fetches";
  }
  if (!std::filesystem::exists(python_rootfs())) {
    return "needs the image that tests/support/make-rootfs makes";
  }
  return "";
}

std::string python_rootfs() { return deps_dir() + "/rootfs/python.img"; }

absl::StatusOr<std::shared_ptr<sandbox::Engine>> test_engine() {
  return sandbox::Engine::create({.scratch_directory = temp_root()});
}

sandbox::TemplateOptions small_guest(const std::string& kernel) {
  sandbox::TemplateOptions options;
  options.kernel = sandbox::Kernel::from_tree(kernel_dir(kernel));
  options.rootfs = python_rootfs();
  options.memory_bytes = uint64_t{128} << 20;
  options.scratch_bytes = uint64_t{64} << 20;
  options.boot_timeout = std::chrono::seconds(120);
  if (auto engine = test_engine(); engine.ok()) {
    options.engine = std::move(*engine);
  }
  return options;
}

const absl::StatusOr<sandbox::Template>& shared_template() {
  static const absl::StatusOr<sandbox::Template> kTemplate = [] {
    return sandbox::Template::build(small_guest("cloud-6.12"));
  }();
  return kTemplate;
}

absl::StatusOr<sandbox::ExecResult> shell(sandbox::Sandbox& box, const std::string& script) {
  return box.exec({"sh", "-c", script});
}

ProcessCounts count_process() {
  std::ifstream maps("/proc/self/maps");
  size_t lines = 0;
  for (std::string line; std::getline(maps, line);) {
    ++lines;
  }
  return {
      .fds = entries("/proc/self/fd"), .threads = entries("/proc/self/task"), .mappings = lines};
}

}  // namespace ramet::testing
