#include "bench/linux_guest.h"

#include <chrono>
#include <utility>

namespace ramet::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

}  // namespace

void add_options(CLI::App* app, LinuxGuest* guest) {
  app->add_option("--memory-mib", guest->memory_mib, "guest memory")->check(CLI::Range(4, 1 << 18));
  app->add_option("--kernel-tree", guest->kernel_tree, "unpacked kernel package, for linux");
  app->add_option("--rootfs", guest->rootfs, "root image, for linux");
  app->add_option("--scratch-directory", guest->scratch_directory,
                  "where the forks' disks lie, for linux");
}

StatusOr<sandbox::Template> build_linux_template(const LinuxGuest& guest,
                                                 std::shared_ptr<sandbox::Engine> engine) {
  sandbox::TemplateOptions build;
  build.kernel = sandbox::Kernel::from_tree(guest.kernel_tree);
  build.rootfs = guest.rootfs;
  build.memory_bytes = guest.memory_mib * kMiB;
  build.scratch_bytes = 64 * kMiB;
  build.warmup = {"/bin/true"};
  build.boot_timeout = std::chrono::minutes(3);
  build.engine = std::move(engine);
  return sandbox::Template::build(build);
}

}  // namespace ramet::bench
