// Reset in place beside the floor of it: one madvise of all memory and SET of all state,
// alternating in one run.
//
// usage: reset_bench [--resets N] [--memory-mib N] [--json FILE]
#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/floor.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/small_guest.h"
#include "lib/fork/fork.h"
#include "vmm/base/clock.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr int kWarmUp = 20;
// docs/specification.md.
constexpr double kBar = 1.30;

struct Options {
  int resets = 500;
  uint64_t memory_mib = 128;
  std::string json;
};

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }

// A guest of the library's that has written to its pages and sleeps.
class Used {
 public:
  static StatusOr<Used> create(Engine* engine, uint64_t memory_bytes, uint64_t pages) {
    Used used(engine, pages);
    RAMET_ASSIGN_OR_RETURN(used.from_, make_writer_template(engine, memory_bytes, pages));
    RAMET_ASSIGN_OR_RETURN(used.instance_, restore_instance(engine, *used.from_, {}, {}));
    RAMET_RETURN_IF_ERROR(used.run());
    return used;
  }

  struct Times {
    uint64_t paused = 0;  // until its vCPU, which slept, had left the guest
    uint64_t all = 0;
  };
  // How long it took until it could run again, and it ran.
  StatusOr<Times> reset() {
    const uint64_t start = monotonic_ns();
    RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
    RAMET_RETURN_IF_ERROR(instance_->machine().pause());
    const uint64_t paused = monotonic_ns() - start;
    auto machine = Instance::take_machine(std::move(instance_));
    RAMET_RETURN_IF_ERROR(machine->rewind(from_->state.machine));
    RAMET_ASSIGN_OR_RETURN(instance_,
                           restore_instance(engine_, *from_, generation, {}, std::move(machine)));
    const uint64_t took = monotonic_ns() - start;
    RAMET_RETURN_IF_ERROR(run());
    return Times{paused, took};
  }

 private:
  Used(Engine* engine, uint64_t pages) : engine_(engine), pages_(pages) {}
  Status run() {
    RAMET_RETURN_IF_ERROR(instance_->resume());
    return wait_written(*instance_, pages_);
  }

  Engine* engine_;
  uint64_t pages_;
  std::shared_ptr<const TemplateData> from_;
  std::unique_ptr<Instance> instance_;
};

StatusOr<std::vector<Row>> measure(const Options& options, Engine* engine, uint64_t pages) {
  const uint64_t memory_bytes = options.memory_mib * kMiB;
  FloorResult result;
  const FloorTemplatePtr floor =
      make_floor_template(memory_bytes, &result, {.written_pages = pages});
  if (floor == nullptr) {
    return errno_status(result.error, std::string("the floor's ") + result.failed);
  }
  RAMET_ASSIGN_OR_RETURN(Used used, Used::create(engine, memory_bytes, pages));
  Row row = {.metric = "reset, " + std::to_string(pages) + " private pages", .bar = kBar};
  Row paused = {.metric = "of it, until the vCPU has stopped"};
  Status failed;
  int done = 0;
  result = floor_reset(*floor, options.resets + kWarmUp, [&](uint64_t floor_ns) {
    if (!failed.ok()) {
      return;
    }
    const auto took = used.reset();
    failed = took.status();
    if (++done > kWarmUp && took.ok()) {
      row.a.push_back(us(took->all));
      row.b.push_back(us(floor_ns));
      paused.a.push_back(us(took->paused));
    }
  });
  if (result.failed != nullptr) {
    return errno_status(result.error, std::string("the floor's ") + result.failed);
  }
  RAMET_RETURN_IF_ERROR(failed);
  return std::vector<Row>{row, paused};
}

StatusOr<std::vector<Row>> measure_all(const Options& options) {
  RAMET_ASSIGN_OR_RETURN(const auto engine, Engine::create({.ready_shells = 0}));
  std::vector<Row> rows;
  for (const uint64_t pages : {16U, 256U, 4096U}) {
    RAMET_ASSIGN_OR_RETURN(auto some, measure(options, engine.get(), pages));
    std::ranges::move(some, std::back_inserter(rows));
  }
  return rows;
}

int run(const Options& options) {
  return report({.program = "reset_bench",
                 .name = "reset-small",
                 .title = "reset, small guest of " + std::to_string(options.memory_mib) + " MiB, " +
                          std::to_string(options.resets) + " resets alternating with the floor",
                 .json = options.json},
                measure_all(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("Reset in place beside one madvise and SET of all state, alternating in one run.");
  app.add_option("--resets", options.resets, "of each")->check(CLI::Range(1, 1'000'000));
  app.add_option("--memory-mib", options.memory_mib, "of the guest")->check(CLI::Range(32, 65'536));
  app.add_option("--json", options.json, "also write every sample to this file");
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
