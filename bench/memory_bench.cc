// What a fork holds of the host's memory outside its guest's: the proportional set size of the
// process at many live forks minus that at one, by kinds of mappings; page tables and what the
// kernel holds apart.
//
// usage: memory_bench [--machines N] [--json FILE]
#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string>

#include <CLI/CLI.hpp>

#include "bench/population.h"
#include "bench/report.h"
#include "bench/samples.h"

namespace ramet::bench {
namespace {

// docs/specification.md.
constexpr double kMostKiB = 96;

struct Options {
  int machines = 1000;
  std::string json;
};

// What is looked at, in KiB; the order of the figures.
enum Figure : size_t {
  kOutside,
  kHeap,
  kRun,
  kElse,
  kGuest,
  kPageTables,
  kSlab,
  kKernelStacks,
  kPerCpu,
  kFigures
};

using Looks = std::array<double, kFigures>;

// The line "Name:   123 kB" of such a file.
double kib_of(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) {
      return std::stod(line.substr(name.size() + 1));
    }
  }
  return 0;
}

// Which figure a mapping counts for, by its name in smaps: thread stacks and arenas have none.
Figure kind_of(const std::string& name) {
  if (name.starts_with("/memfd:")) {
    return kGuest;
  }
  if (name.starts_with("anon_inode:kvm-vcpu")) {
    return kRun;
  }
  return name.empty() || name == "[heap]" ? kHeap : kElse;
}

Looks look() {
  Looks looks = {};
  std::ifstream smaps("/proc/self/smaps");
  Figure kind = kElse;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    if (first.find('-') != std::string::npos && first.back() != ':') {
      std::string name;
      for (int i = 0; i < 4; ++i) {
        words >> name;  // permissions, offset, device, inode
      }
      name.clear();
      words >> name;
      kind = kind_of(name);
    } else if (first == "Pss:") {
      double kib = 0;
      words >> kib;
      looks[kind] += kib;
    }
  }
  looks[kOutside] = looks[kHeap] + looks[kRun] + looks[kElse];
  looks[kPageTables] = kib_of("/proc/self/status", "VmPTE");
  looks[kSlab] = kib_of("/proc/meminfo", "Slab");
  looks[kKernelStacks] = kib_of("/proc/meminfo", "KernelStack");
  looks[kPerCpu] = kib_of("/proc/meminfo", "Percpu");
  return looks;
}

// A process with so many forks.
StatusOr<Looks> look_at(int machines) {
  RAMET_ASSIGN_OR_RETURN(
      const auto figures, in_child([&](const std::function<void()>& begin) -> StatusOr<Figures> {
        Looks looks = {};
        RAMET_RETURN_IF_ERROR(grow_forks({.machines = machines}, begin, [&](Engine* /*engine*/) {
                                looks = look();
                                return Status();
                              }).status());
        return Figures(looks.begin(), looks.end());
      }));
  Looks looks = {};
  std::ranges::copy(figures, looks.begin());
  return looks;
}

StatusOr<std::vector<Row>> measure(const Options& options) {
  RAMET_ASSIGN_OR_RETURN(const Looks one, look_at(1));
  RAMET_ASSIGN_OR_RETURN(const Looks many, look_at(options.machines));
  const auto each = [&](Figure figure) {
    return std::vector<double>{(many.at(figure) - one.at(figure)) / (options.machines - 1)};
  };
  return std::vector<Row>{
      {.metric = "outside the guest, of 96 KiB",
       .a = each(kOutside),
       .b = {kMostKiB},
       .unit = "KiB",
       .bar = 1},
      {.metric = "of it heap and stacks", .a = each(kHeap), .unit = "KiB"},
      {.metric = "of it kvm_run", .a = each(kRun), .unit = "KiB"},
      {.metric = "of it all else", .a = each(kElse), .unit = "KiB"},
      {.metric = "guest, private pages", .a = each(kGuest), .unit = "KiB"},
      {.metric = "page tables", .a = each(kPageTables), .unit = "KiB"},
      {.metric = "host's slab", .a = each(kSlab), .unit = "KiB"},
      {.metric = "host's kernel stacks", .a = each(kKernelStacks), .unit = "KiB"},
      {.metric = "host's per-CPU memory", .a = each(kPerCpu), .unit = "KiB"},
  };
}

int run(const Options& options) {
  return report({.program = "memory_bench",
                 .name = "memory",
                 .title = "memory of one fork: (" + std::to_string(options.machines) +
                          " live forks minus 1) / " + std::to_string(options.machines - 1),
                 .json = options.json,
                 .sides = {.a = "ramet", .b = "most"}},
                measure(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("What a fork holds of the host's memory outside its guest's.");
  app.add_option("--machines", options.machines, "live forks")->check(CLI::Range(2, 100'000));
  app.add_option("--json", options.json, "also write every figure to this file");
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
