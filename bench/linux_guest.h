// A template of a Debian guest, for benches of what needs an agent.
//
// Thread rule: one thread.
#ifndef RAMET_BENCH_LINUX_GUEST_H_
#define RAMET_BENCH_LINUX_GUEST_H_

#include <cstdint>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include <ramet/engine.h>
#include <ramet/template.h>

#include "vmm/base/status.h"

namespace ramet::bench {

struct LinuxGuest {
  std::string kernel_tree;
  std::string rootfs;
  std::string scratch_directory = "/var/tmp";
  uint64_t memory_mib = 128;
};

// The command line's part of it.
void add_options(CLI::App* app, LinuxGuest* guest);

StatusOr<sandbox::Template> build_linux_template(const LinuxGuest& guest,
                                                 std::shared_ptr<sandbox::Engine> engine);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_LINUX_GUEST_H_
