// The five clocks of a fork beside the raw floor, alternating in one run.
//
// usage: fork_bench [--guest small|linux] [--forks N] [--seconds N] [--only teardown]
//                   [--memory-mib N] [--json FILE] [--kernel-tree DIR --rootfs IMG]
#include <string>

#include <CLI/CLI.hpp>

#include <ramet/sandbox.h>

#include "bench/floor.h"
#include "bench/linux_guest.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/small_guest.h"
#include "vmm/base/clock.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr int kWarmUp = 20;
// Blocks of forks back to back, of Ramet's and of the floor's by turns.
constexpr int kBlocks = 5;

// docs/specification.md.
constexpr double kFirstBar = 1.25;
constexpr double kFirstP99Bar = 1.50;
constexpr double kShellBar = 0.30;
constexpr double kKillBar = 0.30;
constexpr double kTeardownBar = 1.30;
constexpr double kBackToBackBar = 1 / 0.75;  // of the time that one takes

struct Options {
  std::string guest = "small";
  int forks = 500;
  int seconds = 10;
  std::string only;
  std::string json;
  LinuxGuest debian;
};

// Rows in the order of docs/design.md section 5. The bars are those of a small guest.
struct Clocks {
  Row shell{.metric = "machine ready"};
  Row first{.metric = "first guest instruction"};
  Row reply{.metric = "first agent reply"};
  Row exec{.metric = "exec done"};
  Row kill{.metric = "kill, for its caller"};
  Row teardown{.metric = "teardown done"};
  Row from_shell{.metric = "from a shell: first instruction"};
  Row back_to_back{.metric = "fork, answer, kill: each"};

  // Those that this guest has, and were asked for.
  std::vector<Row> rows(const std::string& only) const {
    std::vector<Row> rows = {shell, first, reply, exec, kill, teardown, from_shell, back_to_back};
    if (only == "teardown") {
      rows = {kill, teardown};
    }
    std::erase_if(rows, [](const Row& row) { return row.a.empty(); });
    return rows;
  }
};

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }
double us(const std::optional<std::chrono::nanoseconds>& time) {
  return time ? static_cast<double>(time->count()) / 1000.0 : -1;
}

Status check_floor(const FloorResult& result) {
  return result.failed == nullptr
             ? Status()
             : errno_status(result.error, std::string("the floor's ") + result.failed);
}

Status add_floor(const FloorTemplate& floor, Clocks* clocks) {
  const FloorResult result = floor_fork_once(floor);
  RAMET_RETURN_IF_ERROR(check_floor(result));
  clocks->shell.b.push_back(us(result.total_ns - result.run_ns));
  clocks->first.b.push_back(us(result.total_ns));
  clocks->teardown.b.push_back(us(result.teardown_ns));
  return Status();
}

struct SmallGuest {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<const TemplateData> from;
  std::shared_ptr<ShellPool> shells;
};

// One of each, and what was measured of the floor before.
Status fork_small_both(const SmallGuest& guest, Clocks* clocks) {
  RAMET_ASSIGN_OR_RETURN(const SmallFork cold, fork_small_once(guest.engine.get(), *guest.from));
  clocks->shell.a.push_back(us(cold.shell_ready));
  clocks->first.a.push_back(us(cold.first_exit));
  clocks->kill.a.push_back(us(cold.kill));
  clocks->teardown.a.push_back(us(cold.teardown));
  clocks->kill.b.push_back(clocks->teardown.b.back());
  auto shell = guest.shells->wait(monotonic_ns() + kSecond);
  if (shell == nullptr) {
    return absl::InternalError("no shell was made within a second");
  }
  RAMET_ASSIGN_OR_RETURN(const SmallFork times,
                         fork_small_once(guest.engine.get(), *guest.from, {}, std::move(shell)));
  clocks->from_shell.a.push_back(us(times.first_exit));
  clocks->from_shell.b.push_back(clocks->first.b.back());
  return Status();
}

// For as long: forks back to back, what they leave behind taken down at the end. Says how long each
// took.
StatusOr<double> back_to_back(const SmallGuest& guest, uint64_t ns) {
  const uint64_t start = monotonic_ns();
  int forks = 0;
  for (; monotonic_ns() - start < ns; ++forks) {
    RAMET_RETURN_IF_ERROR(
        fork_small_and_go_on(guest.engine.get(), *guest.from, guest.shells.get()));
  }
  RAMET_RETURN_IF_ERROR(guest.engine->drain(monotonic_ns() + 10 * kSecond));
  return us(monotonic_ns() - start) / forks;
}

StatusOr<double> floor_back_to_back(const FloorTemplate& floor, uint64_t ns) {
  const uint64_t start = monotonic_ns();
  int forks = 0;
  for (; monotonic_ns() - start < ns; ++forks) {
    RAMET_RETURN_IF_ERROR(check_floor(floor_fork_once(floor)));
  }
  return us(monotonic_ns() - start) / forks;
}

Status run_small(const Options& options, const FloorTemplate& floor, Clocks* clocks) {
  // One shell, so that none is being made beside a fork that is measured.
  RAMET_ASSIGN_OR_RETURN(const auto engine, Engine::create({.ready_shells = 1}));
  RAMET_ASSIGN_OR_RETURN(const auto from,
                         make_small_template(engine.get(), options.debian.memory_mib * kMiB));
  const SmallGuest guest = {engine, from, engine->make_shells(from)};
  Clocks ignored;
  for (int i = 0; i < kWarmUp; ++i) {
    RAMET_RETURN_IF_ERROR(add_floor(floor, &ignored));
    RAMET_RETURN_IF_ERROR(fork_small_both(guest, &ignored));
  }
  clocks->first.bar = kFirstBar;
  clocks->first.p99_bar = kFirstP99Bar;
  clocks->kill.bar = kKillBar;
  clocks->from_shell.bar = kShellBar;
  clocks->teardown.bar = kTeardownBar;
  clocks->back_to_back.bar = kBackToBackBar;
  for (int i = 0; i < options.forks; ++i) {
    RAMET_RETURN_IF_ERROR(add_floor(floor, clocks));
    RAMET_RETURN_IF_ERROR(fork_small_both(guest, clocks));
  }
  const uint64_t block = static_cast<uint64_t>(options.seconds) * kSecond / kBlocks;
  for (int i = 0; i < kBlocks; ++i) {
    RAMET_ASSIGN_OR_RETURN(const double floors, floor_back_to_back(floor, block));
    clocks->back_to_back.b.push_back(floors);
    RAMET_ASSIGN_OR_RETURN(const double ours, back_to_back(guest, block));
    clocks->back_to_back.a.push_back(ours);
  }
  return Status();
}

Status fork_linux_once(const sandbox::Template& from, Clocks* clocks) {
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox box,
                         sandbox::fork(from, {.shell = sandbox::ShellUse::kNone}));
  RAMET_ASSIGN_OR_RETURN(const sandbox::ExecResult result, box.exec({"/bin/true"}));
  if (!result.ok()) {
    return absl::InternalError("/bin/true in the guest failed");
  }
  const uint64_t before = monotonic_ns();
  box.kill();
  clocks->kill.a.push_back(us(monotonic_ns() - before));
  RAMET_RETURN_IF_ERROR(box.wait_gone(std::chrono::seconds(30)));
  const sandbox::ForkClocks times = box.metrics().clocks;
  clocks->shell.a.push_back(us(times.shell_ready));
  clocks->first.a.push_back(us(times.first_guest_instruction));
  clocks->reply.a.push_back(us(times.first_agent_reply));
  clocks->exec.a.push_back(us(times.exec_done));
  clocks->teardown.a.push_back(us(times.teardown_done));
  return Status();
}

Status fork_linux_from_shell(const sandbox::Template& from, Clocks* clocks) {
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox box,
                         sandbox::fork(from, {.shell = sandbox::ShellUse::kWait}));
  clocks->from_shell.a.push_back(us(box.metrics().clocks.first_guest_instruction));
  box.kill();
  return box.wait_gone(std::chrono::seconds(30));
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
    RAMET_RETURN_IF_ERROR(fork_linux_from_shell(from, clocks));
    clocks->kill.b.push_back(clocks->teardown.b.back());
    clocks->from_shell.b.push_back(clocks->first.b.back());
  }
  return Status();
}

StatusOr<std::vector<Row>> measure(const Options& options) {
  FloorResult why;
  const FloorTemplatePtr floor = make_floor_template(options.debian.memory_mib * kMiB, &why);
  RAMET_RETURN_IF_ERROR(check_floor(why));
  Clocks clocks;
  RAMET_RETURN_IF_ERROR(options.guest == "linux" ? run_linux(options, *floor, &clocks)
                                                 : run_small(options, *floor, &clocks));
  return clocks.rows(options.only);
}

int run(const Options& options) {
  return report({.program = "fork_bench",
                 .name = "fork-" + options.guest,
                 .title = "fork, " + options.guest + " guest of " +
                          std::to_string(options.debian.memory_mib) + " MiB, " +
                          std::to_string(options.forks) + " forks alternating with the floor",
                 .json = options.json},
                measure(options));
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
  app.add_option("--seconds", options.seconds, "of forks back to back (small guest)")
      ->check(CLI::Range(1, 3600));
  app.add_option("--only", options.only, "teardown: the rows of what comes after the kill")
      ->check(CLI::IsMember({"teardown"}));
  app.add_option("--json", options.json, "also write every sample to this file");
  add_options(&app, &options.debian);
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
