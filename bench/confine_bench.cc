// What confinement costs a fork: with and without filters, threads kept for the next machine and
// made anew, in this process and in a helper's that stood ready, alternating in one run.
//
// usage: confine_bench [--guest small|linux] [--forks N] [--memory-mib N] [--json FILE]
//                      [--kernel-tree DIR --rootfs IMG]
//
// With a small guest: the fork alone, on any KVM. With a Linux guest: commands too.
#include <array>
#include <chrono>
#include <span>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "bench/confine_exec.h"
#include "bench/linux_guest.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/small_guest.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr int kWarmUp = 20;
// For the next helper to be started, behind one that was taken (9 ms): nothing is measured beside
// it.
constexpr std::chrono::milliseconds kHelperStarts(15);
// docs/specification.md.
constexpr double kPooledBar = 1.03;
constexpr double kNewBar = 1.20;

struct Options {
  int forks = 1000;
  std::string guest = "small";
  std::string json;
  LinuxGuest debian;
};

struct Variant {
  jail::Mode mode;
  size_t idle_threads;
  bool in_helper = false;
  std::shared_ptr<Engine> engine = nullptr;
  std::shared_ptr<const TemplateData> from = nullptr;
  std::vector<double> ready = {};
  std::vector<double> first_exit = {};
  std::vector<double> teardown = {};
};

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }

StatusOr<SmallFork> fork_small(const Variant& variant) {
  return variant.in_helper ? fork_small_in_helper(variant.engine.get(), *variant.from)
                           : fork_small_once(variant.engine.get(), *variant.from);
}

Status prepare(const Options& options, Variant* variant) {
  RAMET_ASSIGN_OR_RETURN(variant->engine, Engine::create({.confinement = variant->mode,
                                                          .confinement_required = true,
                                                          .idle_threads = variant->idle_threads}));
  RAMET_ASSIGN_OR_RETURN(
      variant->from, make_small_template(variant->engine.get(), options.debian.memory_mib * kMiB));
  for (int i = 0; i < kWarmUp; ++i) {
    RAMET_RETURN_IF_ERROR(fork_small(*variant).status());
  }
  return Status();
}

Status fork_once(Variant* variant) {
  RAMET_ASSIGN_OR_RETURN(const SmallFork times, fork_small(*variant));
  variant->ready.push_back(us(times.shell_ready));
  variant->first_exit.push_back(us(times.first_exit));
  variant->teardown.push_back(us(times.teardown));
  if (variant->in_helper) {
    std::this_thread::sleep_for(kHelperStarts);
  }
  return Status();
}

Status measure(const Options& options, std::span<Variant> variants) {
  for (Variant& variant : variants) {
    RAMET_RETURN_IF_ERROR(prepare(options, &variant));
  }
  const size_t count = variants.size();
  for (int i = 0; i < options.forks; ++i) {
    // Each comes first as often as the others, and behind its neighbour on either side.
    for (size_t turn = 0; turn < count; ++turn) {
      const size_t place = (static_cast<size_t>(i) + turn) % count;
      RAMET_RETURN_IF_ERROR(fork_once(&variants[i % 2 == 0 ? place : count - 1 - place]));
    }
  }
  return Status();
}

constexpr size_t kPool = 32;

StatusOr<std::vector<Row>> measure_filters(const Options& options) {
  std::array<Variant, 4> v = {Variant{jail::Mode::kEnforce, kPool},
                              Variant{jail::Mode::kOff, kPool}, Variant{jail::Mode::kEnforce, 0},
                              Variant{jail::Mode::kOff, 0}};
  RAMET_RETURN_IF_ERROR(measure(options, v));
  return std::vector<Row>{
      {.metric = "pooled: ready", .a = v[0].ready, .b = v[1].ready},
      {.metric = "pooled: first exit",
       .a = v[0].first_exit,
       .b = v[1].first_exit,
       .bar = kPooledBar},
      {.metric = "pooled: teardown", .a = v[0].teardown, .b = v[1].teardown},
      {.metric = "new: ready", .a = v[2].ready, .b = v[3].ready},
      {.metric = "new: first exit", .a = v[2].first_exit, .b = v[3].first_exit, .bar = kNewBar},
      {.metric = "new: teardown", .a = v[2].teardown, .b = v[3].teardown},
  };
}

// Apart from the others, which would come behind it unevenly.
StatusOr<std::vector<Row>> measure_helpers(const Options& options) {
  std::array<Variant, 2> v = {Variant{jail::Mode::kEnforce, kPool, true},
                              Variant{jail::Mode::kEnforce, kPool}};
  RAMET_RETURN_IF_ERROR(measure(options, v));
  return std::vector<Row>{
      {.metric = "helper process: ready", .a = v[0].ready, .b = v[1].ready},
      {.metric = "helper process: first exit", .a = v[0].first_exit, .b = v[1].first_exit},
      {.metric = "helper process: teardown", .a = v[0].teardown, .b = v[1].teardown},
  };
}

StatusOr<std::vector<Row>> measure_small(const Options& options) {
  RAMET_ASSIGN_OR_RETURN(std::vector<Row> rows, measure_filters(options));
  RAMET_ASSIGN_OR_RETURN(const std::vector<Row> helpers, measure_helpers(options));
  rows.insert(rows.end(), helpers.begin(), helpers.end());
  return rows;
}

int run(const Options& options) {
  return report(
      {.program = "confine_bench",
       .name = "confine-" + options.guest,
       .title = "fork of a " + options.guest + " guest, " + std::to_string(options.forks) +
                " of each: filters on (a) and off (b); a helper process from the pool "
                "(a) and this process, threads pooled (b)",
       .json = options.json,
       .sides = {"a", "b"}},
      options.guest == "linux" ? measure_exec(options.debian, options.forks)
                               : measure_small(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("What the filters of Ramet's threads cost a fork, alternating in one run.");
  app.add_option("--guest", options.guest, "small: a few instructions, any KVM; linux: with agent")
      ->check(CLI::IsMember({"small", "linux"}));
  app.add_option("--forks", options.forks, "forks of each kind")->check(CLI::Range(1, 1'000'000));
  add_options(&app, &options.debian);
  app.add_option("--json", options.json, "also write every sample to this file");
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
