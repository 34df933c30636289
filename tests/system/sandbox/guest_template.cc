#include "tests/system/sandbox/guest_template.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

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
#if defined(RAMET_NO_IDLE_THREADS)  // each thread is made anew: the fault tests count and fail them
  return sandbox::Engine::create(
      {.scratch_directory = temp_root(), .idle_threads = 0, .ready_shells = 0});
#else
  return sandbox::Engine::create({.scratch_directory = temp_root()});
#endif
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

sandbox::ForkOptions isolated(sandbox::ForkOptions options) {
#if defined(RAMET_IN_HELPERS)
  options.isolation = sandbox::Isolation::kProcess;
#endif
  return options;
}

absl::StatusOr<sandbox::Sandbox> fork_shared(sandbox::ForkOptions options) {
  return sandbox::fork(*shared_template(), isolated(std::move(options)));
}

absl::StatusOr<sandbox::ExecResult> shell(sandbox::Sandbox& box, const std::string& script) {
  return box.exec({"sh", "-c", script});
}

ProcessCounts quiet_process() {
  ProcessCounts last = count_process();
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const ProcessCounts now = count_process();
    if (now.fds == last.fds && now.threads == last.threads) {
      break;
    }
    last = now;
  }
  return last;
}

ProcessCounts settled_process(const ProcessCounts& wanted) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  ProcessCounts now = count_process();
  while ((now.fds > wanted.fds || now.threads > wanted.threads) &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    now = count_process();
  }
  return now;
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
