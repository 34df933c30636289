// The five clocks of a fork beside the raw floor, alternating in one run.
//
// usage: fork_bench [--guest small|linux] [--forks N] [--memory-mib N] [--json FILE]
//                   [--kernel-tree DIR --rootfs IMG]
#include <cstdio>
#include <fstream>
#include <string>

#include <CLI/CLI.hpp>

#include <ramet/sandbox.h>

#include "bench/floor.h"
#include "bench/linux_guest.h"
#include "bench/samples.h"
#include "bench/small_guest.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr int kWarmUp = 20;

struct Options {
  std::string guest = "small";
  int forks = 500;
  std::string json;
  LinuxGuest debian;
};

// Rows in the order of docs/design.md section 5.
struct Clocks {
  Row shell{.metric = "shell ready"};
  Row first{.metric = "first guest instruction"};
  Row reply{.metric = "first agent reply"};
  Row exec{.metric = "exec done"};
  Row teardown{.metric = "teardown done"};

  std::vector<Row> rows() const { return {shell, first, reply, exec, teardown}; }
};

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }
double us(const std::optional<std::chrono::nanoseconds>& time) {
  return time ? static_cast<double>(time->count()) / 1000.0 : -1;
}

Status add_floor(const FloorTemplate& floor, Clocks* clocks) {
  const FloorResult result = floor_fork_once(floor);
  if (result.failed != nullptr) {
    return errno_status(result.error, std::string("the floor's ") + result.failed);
  }
  clocks->shell.b.push_back(us(result.total_ns - result.run_ns));
  clocks->first.b.push_back(us(result.total_ns));
  clocks->teardown.b.push_back(us(result.teardown_ns));
  return Status();
}

Status run_small(const Options& options, const FloorTemplate& floor, Clocks* clocks) {
  RAMET_ASSIGN_OR_RETURN(const auto engine, Engine::create({}));
  RAMET_ASSIGN_OR_RETURN(const auto from,
                         make_small_template(engine.get(), options.debian.memory_mib * kMiB));
  for (int i = 0; i < kWarmUp; ++i) {
    RAMET_RETURN_IF_ERROR(fork_small_once(engine.get(), *from).status());
    floor_fork_once(floor);
  }
  for (int i = 0; i < options.forks; ++i) {
    RAMET_RETURN_IF_ERROR(add_floor(floor, clocks));
    RAMET_ASSIGN_OR_RETURN(const SmallFork times, fork_small_once(engine.get(), *from));
    clocks->shell.a.push_back(us(times.shell_ready));
    clocks->first.a.push_back(us(times.first_exit));
    clocks->teardown.a.push_back(us(times.teardown));
  }
  return Status();
}

Status fork_linux_once(const sandbox::Template& from, Clocks* clocks) {
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox box, sandbox::fork(from));
  RAMET_ASSIGN_OR_RETURN(const sandbox::ExecResult result, box.exec({"/bin/true"}));
  if (!result.ok()) {
    return absl::InternalError("/bin/true in the guest failed");
  }
  box.kill();
  RAMET_RETURN_IF_ERROR(box.wait_gone(std::chrono::seconds(30)));
  const sandbox::ForkClocks times = box.metrics().clocks;
  clocks->shell.a.push_back(us(times.shell_ready));
  clocks->first.a.push_back(us(times.first_guest_instruction));
  clocks->reply.a.push_back(us(times.first_agent_reply));
  clocks->exec.a.push_back(us(times.exec_done));
  clocks->teardown.a.push_back(us(times.teardown_done));
  return Status();
}

Status run_linux(const Options& options, const FloorTemplate& floor, Clocks* clocks) {
  RAMET_ASSIGN_OR_RETURN(auto engine, sandbox::Engine::create(
                                          {.scratch_directory = options.debian.scratch_directory}));
  RAMET_ASSIGN_OR_RETURN(const sandbox::Template from,
                         build_linux_template(options.debian, engine));
  Clocks ignored;
  RAMET_RETURN_IF_ERROR(fork_linux_once(from, &ignored));
  for (int i = 0; i < options.forks; ++i) {
    RAMET_RETURN_IF_ERROR(add_floor(floor, clocks));
    RAMET_RETURN_IF_ERROR(fork_linux_once(from, clocks));
  }
  return Status();
}

int report(const Options& options, const Clocks& clocks) {
  const std::vector<Row> rows = clocks.rows();
  const std::string title = "fork, " + options.guest + " guest of " +
                            std::to_string(options.debian.memory_mib) + " MiB, " +
                            std::to_string(options.forks) + " forks alternating with the floor";
  std::fputs(format_table(title, rows).c_str(), stdout);
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << format_json("fork-" + options.guest, rows);
    if (!file.flush()) {
      std::fprintf(stderr, "fork_bench: cannot write %s\n", options.json.c_str());
      return 1;
    }
  }
  for (const Row& row : rows) {
    if (row.misses_bar()) {
      return 1;
    }
  }
  return 0;
}

int run(const Options& options) {
  FloorResult why;
  const FloorTemplatePtr floor = make_floor_template(options.debian.memory_mib * kMiB, &why);
  if (floor == nullptr) {
    std::fprintf(stderr, "fork_bench: the floor's %s failed, errno %d\n", why.failed, why.error);
    return 1;
  }
  Clocks clocks;
  const Status status = options.guest == "linux" ? run_linux(options, *floor, &clocks)
                                                 : run_small(options, *floor, &clocks);
  if (!status.ok()) {
    std::fprintf(stderr, "fork_bench: %s\n", status.ToString().c_str());
    return 1;
  }
  return report(options, clocks);
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("The five clocks of a fork beside the raw floor, alternating in one run.");
  app.add_option("--guest", options.guest, "small: a few instructions, any KVM; linux: with agent")
      ->check(CLI::IsMember({"small", "linux"}));
  app.add_option("--forks", options.forks, "forks to measure")->check(CLI::Range(1, 1'000'000));
  app.add_option("--json", options.json, "also write every sample to this file");
  add_options(&app, &options.debian);
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
