// A command in a new fork, in one that was reset, and in a sandbox that has run many; and the first
// answer with pages made ready ahead and without. With Debian guests, alternating in one run.
//
// usage: exec_bench --kernel-tree DIR --rootfs IMG [--runs N] [--memory-mib N] [--json FILE]
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include <ramet/sandbox.h>

#include "bench/linux_guest.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/kvm.h"

namespace ramet::bench {
namespace {

constexpr std::chrono::seconds kPatience(30);
constexpr int kWarmCommands = 50;
// Between two samples: a guest goes on behind its answer (RCU, the control group of its next
// command), and the engine makes its next machine, each on the processor of the next sample.
constexpr std::chrono::milliseconds kQuiet(100);
// Then another is built: these ratios vary by a fifth from one to the next (docs/adr/0011).
constexpr int kRunsOfTemplate = 3;
// docs/specification.md.
constexpr double kForkExecBar = 2.0;
constexpr double kResetExecBar = 0.8;
constexpr double kPreFaultBar = 0.5;
constexpr double kPopulateBar = 0.85;

struct Options {
  int runs = 30;
  std::string json;
  LinuxGuest debian;
};

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }

struct Rows {
  Row fork{.metric = "fork + exec, over exec", .bar = kForkExecBar};
  Row reset{.metric = "reset + exec, over fork + exec", .bar = kResetExecBar};
  Row ahead{.metric = "first reply, pages ahead or not"};
};

Status run_true(sandbox::Sandbox* box) {
  RAMET_ASSIGN_OR_RETURN(const sandbox::ExecResult result, box->exec({"/bin/true"}));
  return result.ok() ? Status() : absl::InternalError("/bin/true in the guest failed");
}

uint64_t start_of_sample() {
  std::this_thread::sleep_for(kQuiet);
  return monotonic_ns();
}

StatusOr<double> timed_exec(sandbox::Sandbox* box) {
  const uint64_t start = start_of_sample();
  RAMET_RETURN_IF_ERROR(run_true(box));
  return us(monotonic_ns() - start);
}

StatusOr<double> timed_reset(sandbox::Sandbox* box) {
  const uint64_t start = start_of_sample();
  RAMET_RETURN_IF_ERROR(box->reset());
  RAMET_RETURN_IF_ERROR(run_true(box));
  return us(monotonic_ns() - start);
}

Status put_away(sandbox::Sandbox box) {
  box.kill();
  return box.wait_gone(kPatience);
}

StatusOr<double> timed_fork(const sandbox::Template& from) {
  const uint64_t start = start_of_sample();
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox box, sandbox::fork(from));
  RAMET_RETURN_IF_ERROR(run_true(&box));
  const double took = us(monotonic_ns() - start);
  RAMET_RETURN_IF_ERROR(put_away(std::move(box)));
  return took;
}

// Without a machine made ahead: all that is made ready is made ready by the fork itself.
StatusOr<double> first_reply(const sandbox::Template& from, bool prefetch) {
  std::this_thread::sleep_for(kQuiet);
  RAMET_ASSIGN_OR_RETURN(
      sandbox::Sandbox box,
      sandbox::fork(from, {.shell = sandbox::ShellUse::kNone, .prefetch = prefetch}));
  const auto reply = box.metrics().clocks.first_agent_reply;
  RAMET_RETURN_IF_ERROR(put_away(std::move(box)));
  if (!reply) {
    return absl::InternalError("a fork without the time of its first reply");
  }
  return us(static_cast<uint64_t>(reply->count()));
}

Status measure_once(const sandbox::Template& from, sandbox::Sandbox* used,
                    sandbox::Sandbox* rewound, Rows* rows) {
  RAMET_ASSIGN_OR_RETURN(const double exec, timed_exec(used));
  RAMET_ASSIGN_OR_RETURN(const double fork, timed_fork(from));
  RAMET_ASSIGN_OR_RETURN(const double reset, timed_reset(rewound));
  RAMET_ASSIGN_OR_RETURN(const double without, first_reply(from, false));
  RAMET_ASSIGN_OR_RETURN(const double with, first_reply(from, true));
  rows->fork.a.push_back(fork);
  rows->fork.b.push_back(exec);
  rows->reset.a.push_back(reset);
  rows->reset.b.push_back(fork);
  rows->ahead.a.push_back(with);
  rows->ahead.b.push_back(without);
  return Status();
}

// Of one template: it is built, and a sandbox of it has had its commands, before the first sample.
Status measure_template(const Options& options, const std::shared_ptr<sandbox::Engine>& engine,
                        int runs, Rows* rows) {
  RAMET_ASSIGN_OR_RETURN(const sandbox::Template from,
                         build_linux_template(options.debian, engine));
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox used, sandbox::fork(from));
  for (int i = 0; i < kWarmCommands; ++i) {
    RAMET_RETURN_IF_ERROR(run_true(&used));
  }
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox rewound, sandbox::fork(from));
  Rows ignored;
  RAMET_RETURN_IF_ERROR(measure_once(from, &used, &rewound, &ignored));
  for (int i = 0; i < runs; ++i) {
    RAMET_RETURN_IF_ERROR(measure_once(from, &used, &rewound, rows));
  }
  return Status();
}

StatusOr<std::vector<Row>> measure(const Options& options) {
  RAMET_ASSIGN_OR_RETURN(auto engine, sandbox::Engine::create(
                                          {.scratch_directory = options.debian.scratch_directory}));
  RAMET_ASSIGN_OR_RETURN(const auto kvm, Kvm::open());
  Rows rows;
  rows.ahead.bar = kvm->has_pre_fault() ? kPreFaultBar : kPopulateBar;
  if (!kvm->has_pre_fault()) {
    // ADR 11: a new fork's command takes a fault for each page that it reads.
    rows.fork.bar.reset();
  }
  for (int left = options.runs; left > 0; left -= kRunsOfTemplate) {
    RAMET_RETURN_IF_ERROR(
        measure_template(options, engine, std::min(left, kRunsOfTemplate), &rows));
  }
  return std::vector<Row>{rows.fork, rows.reset, rows.ahead};
}

int run(const Options& options) {
  return report(
      {.program = "exec_bench",
       .name = "exec-linux",
       .title = "/bin/true in a Debian guest of " + std::to_string(options.debian.memory_mib) +
                " MiB, " + std::to_string(options.runs) + " of each, alternating",
       .json = options.json,
       .sides = {.a = "first", .b = "second"}},
      measure(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("A command in a new fork, after a reset, and in a used sandbox, alternating.");
  app.add_option("--runs", options.runs, "of each")->check(CLI::Range(1, 1'000'000));
  app.add_option("--json", options.json, "also write every sample to this file");
  add_options(&app, &options.debian);
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
