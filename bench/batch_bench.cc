// Many forks by one call beside as many calls one after the other, with a Debian guest.
//
// usage: batch_bench --kernel-tree DIR --rootfs IMG [--runs N] [--forks N] [--memory-mib N]
//                    [--json FILE]
#include <chrono>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <ramet/sandbox.h>

#include "bench/linux_guest.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "vmm/base/clock.h"

namespace ramet::bench {
namespace {

constexpr std::chrono::seconds kPatience(60);
// What is done at once must not take longer, but for what two runs of the same differ by.
constexpr double kBar = 1.05;

struct Options {
  int runs = 10;
  int forks = 8;
  std::string json;
  LinuxGuest debian;
};

using Forks = std::vector<absl::StatusOr<sandbox::Sandbox>>;

Forks one_by_one(const sandbox::Template& from, int count) {
  Forks forks;
  for (int i = 0; i < count; ++i) {
    forks.push_back(sandbox::fork(from));
  }
  return forks;
}

Status put_away(Forks forks) {
  for (auto& box : forks) {
    RAMET_RETURN_IF_ERROR(box.status());
    box->kill();
  }
  for (auto& box : forks) {
    RAMET_RETURN_IF_ERROR(box->wait_gone(kPatience));
  }
  return Status();
}

template <typename MakeForks>
StatusOr<double> each_us(int count, const MakeForks& make) {
  const uint64_t start = monotonic_ns();
  Forks forks = make();
  const double took = static_cast<double>(monotonic_ns() - start) / 1000.0 / count;
  RAMET_RETURN_IF_ERROR(put_away(std::move(forks)));
  return took;
}

StatusOr<std::vector<Row>> measure(const Options& options) {
  RAMET_ASSIGN_OR_RETURN(auto engine, sandbox::Engine::create(
                                          {.scratch_directory = options.debian.scratch_directory}));
  RAMET_ASSIGN_OR_RETURN(const sandbox::Template from,
                         build_linux_template(options.debian, engine));
  Row row = {.metric = "fork to first reply, each", .bar = kBar};
  for (int i = -1; i < options.runs; ++i) {
    RAMET_ASSIGN_OR_RETURN(const double many, each_us(options.forks, [&] {
                             return sandbox::fork_many(from, static_cast<size_t>(options.forks));
                           }));
    RAMET_ASSIGN_OR_RETURN(const double single,
                           each_us(options.forks, [&] { return one_by_one(from, options.forks); }));
    if (i >= 0) {  // the first warms up
      row.a.push_back(many);
      row.b.push_back(single);
    }
  }
  return std::vector<Row>{row};
}

int run(const Options& options) {
  return report(
      {.program = "batch_bench",
       .name = "batch-linux",
       .title = std::to_string(options.forks) + " forks of a Debian guest of " +
                std::to_string(options.debian.memory_mib) + " MiB at once, and one by one",
       .json = options.json,
       .sides = {.a = "at once", .b = "one by one"}},
      measure(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("Many forks by one call beside as many calls one after the other.");
  app.add_option("--runs", options.runs, "of each")->check(CLI::Range(1, 1'000'000));
  app.add_option("--forks", options.forks, "in one batch")->check(CLI::Range(1, 1'000));
  app.add_option("--json", options.json, "also write every sample to this file");
  add_options(&app, &options.debian);
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
