// What one more fork costs when many live, beside as many bare VMs: each population in a process of
// its own, by turns; and what a fork of a large guest costs.
//
// usage: growth_bench [--machines N] [--rounds N] [--processes N] [--forks N] [--json FILE]
#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "bench/floor.h"
#include "bench/population.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/small_guest.h"
#include "vmm/base/clock.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSmall = 128 * kMiB;
constexpr uint64_t kLarge = 8192 * kMiB;
constexpr uint64_t kSecond = 1'000'000'000;
// How many of the first and of the last are compared.
constexpr size_t kWindow = 10;
// Of each process, where there are any: as many as an embedder has by default.
constexpr uint32_t kShells = 2;

// docs/specification.md.
constexpr double kAllBar = 1.30;
constexpr double kLastBar = 2.00;
// Between a machine made ahead and its fork, since it is made ahead of need: right behind the
// making a fork of 8 GiB took a tenth longer (docs/adr/0013).
constexpr std::chrono::milliseconds kSettled(2);
constexpr double kLargeBar = 1.25;
constexpr double kLargeShellBar = 1.20;
constexpr double kLargeSmallBar = 1.20;

struct Options {
  int machines = 1000;
  int rounds = 5;
  int processes = 8;
  int callers = 4;  // as many as fork_many() has on two processors
  int forks = 100;
  bool sizes_only = false;
  bool workers_only = false;
  std::string json;
};

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }

// All of them: those that took turns one after the other, the others side by side.
double all_ms(const std::vector<Figures>& children, Turns turns) {
  double sum = 0;
  double longest = 0;
  for (const Figures& child : children) {
    sum += child.back() / 1000;
    longest = std::max(longest, child.back() / 1000);
  }
  return turns == Turns::kAtOnce ? longest : sum;
}

// Rows of one number of processes. In each, `a` is the forks' and `b` the floor's, but for the two
// that compare the last with the first.
struct Curves {
  Row one_by_one;
  Row made_ahead;  // one by one, with machines made ahead while the caller waits for others
  Row together;
  Row last_first;
  Row floor_last_first;
  Row curve;
  Row processor;

  explicit Curves(const std::string& where)
      : one_by_one{.metric = where + ": all, one by one", .unit = "ms"},
        made_ahead{.metric = where + ": the same, shells", .unit = "ms", .bar = kAllBar},
        together{.metric = where + ": all", .unit = "ms", .bar = kAllBar},
        last_first{.metric = where + ": last over first", .bar = kLastBar},
        floor_last_first{.metric = where + ": floor's last/first"},
        curve{.metric = where + ": each"},
        processor{.metric = where + ": processor time of each"} {}
  std::vector<Row> rows() const {
    return {together, one_by_one, made_ahead, last_first, floor_last_first, curve, processor};
  }
  // Of populations that were made one after the other.
  void add_one_by_one(const std::vector<Figures>& forks, const std::vector<Figures>& from_shells,
                      const std::vector<Figures>& floor) {
    one_by_one.a.push_back(all_ms(forks, Turns::kOneAfterTheOther));
    made_ahead.a.push_back(all_ms(from_shells, Turns::kOneAfterTheOther));
    for (Row* row : {&one_by_one, &made_ahead}) {
      row->b.push_back(all_ms(floor, Turns::kOneAfterTheOther));
    }
  }
  // Of populations that were made all at once.
  void add_processor(const std::vector<Figures>& ours, const std::vector<Figures>& theirs) {
    processor.a.push_back(processor_of_each(ours));
    processor.b.push_back(processor_of_each(theirs));
  }
  // Each fork and each bare VM of a round, in the order of their making.
  void add(const Figures& ours, const Figures& theirs) {
    add_ends(ours, &last_first);
    add_ends(theirs, &floor_last_first);
    curve.a.insert(curve.a.end(), ours.begin(), ours.end());
    curve.b.insert(curve.b.end(), theirs.begin(), theirs.end());
  }

 private:
  static double processor_of_each(const std::vector<Figures>& children) {
    double used = 0;
    size_t machines = 0;
    for (const Figures& child : children) {
      used += child.at(child.size() - kTotals);
      machines += child.size() - kTotals;
    }
    return used / static_cast<double>(machines);
  }
  static void add_ends(const Figures& each, Row* row) {
    row->a.insert(row->a.end(), each.end() - kWindow, each.end());
    row->b.insert(row->b.end(), each.begin(), each.begin() + kWindow);
  }
};

// The children's figures without the totals of each: their first machines, then their second ...
Figures by_turns(const std::vector<Figures>& children) {
  Figures all;
  for (size_t i = 0; i + kTotals < children.front().size(); ++i) {
    for (const Figures& child : children) {
      all.push_back(child[i]);
    }
  }
  return all;
}

// Forks by one engine, spread over its worker processes and its own; bare VMs over as many.
Status add_sharded_round(const Options& options, Curves* curves) {
  const Population bare = {.machines = options.machines / options.processes};
  const auto grow_bare = [&](Turns turns) {
    return in_children(options.processes, turns,
                       [&](const std::function<void()>& begin) { return grow_floor(bare, begin); });
  };
  Population what = {.machines = options.machines, .worker_processes = options.processes - 1};
  const auto grow = [&] {
    return in_children(1, Turns::kAtOnce,
                       [&](const std::function<void()>& begin) { return grow_forks(what, begin); });
  };
  RAMET_ASSIGN_OR_RETURN(const auto floor, grow_bare(Turns::kOneAfterTheOther));
  RAMET_ASSIGN_OR_RETURN(const auto forks, grow());
  what.ready_shells = kShells;
  RAMET_ASSIGN_OR_RETURN(const auto from_shells, grow());
  what.ready_shells = 0;
  curves->add_one_by_one(forks, from_shells, floor);
  what.callers = options.callers;
  RAMET_ASSIGN_OR_RETURN(const auto floor_at_once, grow_bare(Turns::kAtOnce));
  RAMET_ASSIGN_OR_RETURN(const auto forks_at_once, grow());
  curves->together.a.push_back(all_ms(forks_at_once, Turns::kAtOnce));
  curves->together.b.push_back(all_ms(floor_at_once, Turns::kAtOnce));
  curves->add_processor(forks_at_once, floor_at_once);
  curves->add(by_turns(forks), by_turns(floor));
  return Status();
}

Status add_round(const Options& options, int processes, Curves* curves) {
  Population what = {.machines = options.machines / processes};
  const auto grow = [&](Turns turns, bool forks) {
    return in_children(processes, turns, [&](const std::function<void()>& begin) {
      return forks ? grow_forks(what, begin) : grow_floor(what, begin);
    });
  };
  RAMET_ASSIGN_OR_RETURN(const auto floor, grow(Turns::kOneAfterTheOther, false));
  RAMET_ASSIGN_OR_RETURN(const auto forks, grow(Turns::kOneAfterTheOther, true));
  what.ready_shells = kShells;
  RAMET_ASSIGN_OR_RETURN(const auto from_shells, grow(Turns::kOneAfterTheOther, true));
  what.ready_shells = 0;
  curves->add_one_by_one(forks, from_shells, floor);
  what.callers = processes == 1 ? options.callers : 1;  // else the processes are the callers
  RAMET_ASSIGN_OR_RETURN(const auto floor_at_once, grow(Turns::kAtOnce, false));
  RAMET_ASSIGN_OR_RETURN(const auto forks_at_once, grow(Turns::kAtOnce, true));
  curves->together.a.push_back(all_ms(forks_at_once, Turns::kAtOnce));
  curves->together.b.push_back(all_ms(floor_at_once, Turns::kAtOnce));
  curves->add_processor(forks_at_once, floor_at_once);
  curves->add(by_turns(forks), by_turns(floor));
  return Status();
}

// --- what a guest's first write to a page costs, when as many live ---

StatusOr<Figures> fault(int machines, const std::function<void()>& begin) {
  constexpr uint64_t kPages = 1024;
  constexpr int kGuests = 10;
  Figures figures;
  const auto write_pages = [&](Engine* engine) -> Status {
    RAMET_ASSIGN_OR_RETURN(const auto from, make_writer_template(engine, kSmall, kPages));
    for (int i = 0; i < kGuests; ++i) {
      RAMET_ASSIGN_OR_RETURN(const auto instance, restore_instance(engine, *from, {}, {}));
      const uint64_t before = monotonic_ns();
      RAMET_RETURN_IF_ERROR(instance->resume());
      RAMET_RETURN_IF_ERROR(wait_written(*instance, kPages));
      figures.push_back(us(monotonic_ns() - before) / kPages);
    }
    return Status();
  };
  RAMET_RETURN_IF_ERROR(grow_forks({.machines = machines}, begin, write_pages).status());
  return figures;
}

StatusOr<Row> measure_faults(const Options& options) {
  Row row = {.metric = "a guest's write fault, at all over at 1"};
  for (const int machines : {1, options.machines}) {
    RAMET_ASSIGN_OR_RETURN(
        (machines == 1 ? row.b : row.a),
        in_child([&](const std::function<void()>& begin) { return fault(machines, begin); }));
  }
  return row;
}

// --- guests of 8 GiB ---

struct Sized {
  FloorTemplatePtr floor;
  std::shared_ptr<const TemplateData> from;
  std::shared_ptr<ShellPool> shells;

  static StatusOr<Sized> make(Engine* engine, uint64_t bytes) {
    Sized sized;
    FloorResult why;
    sized.floor = make_floor_template(bytes, &why);
    if (sized.floor == nullptr) {
      return errno_status(why.error, std::string("the floor's ") + why.failed);
    }
    RAMET_ASSIGN_OR_RETURN(sized.from, make_small_template(engine, bytes));
    sized.shells = engine->make_shells(sized.from);
    return sized;
  }

  StatusOr<double> fork(Engine* engine) const {
    RAMET_ASSIGN_OR_RETURN(const SmallFork fork, fork_small_once(engine, *from));
    return us(fork.first_exit);
  }

  StatusOr<double> fork_from_shell(Engine* engine) const {
    auto shell = shells->wait(monotonic_ns() + kSecond);
    if (shell == nullptr) {
      return absl::InternalError("no shell was made within a second");
    }
    std::this_thread::sleep_for(kSettled);
    RAMET_ASSIGN_OR_RETURN(const SmallFork fork,
                           fork_small_once(engine, *from, {}, std::move(shell)));
    return us(fork.first_exit);
  }
};

// Whether KVM has two-dimensional paging, and then by turns: the floor at 8 GiB, a fork of each
// size, one from a shell of each.
StatusOr<Figures> fork_sizes(int forks) {
  RAMET_ASSIGN_OR_RETURN(const auto engine, Engine::create({.ready_shells = 1}));
  RAMET_ASSIGN_OR_RETURN(const Sized small, Sized::make(engine.get(), kSmall));
  RAMET_ASSIGN_OR_RETURN(const Sized large, Sized::make(engine.get(), kLarge));
  Figures figures = {engine->kvm()->kind() == KvmKind::kHardware ? 1.0 : 0.0};
  for (int i = 0; i < forks; ++i) {
    figures.push_back(us(floor_fork_once(*large.floor).total_ns));
    for (const Sized* size : {&large, &small}) {
      RAMET_ASSIGN_OR_RETURN(figures.emplace_back(), size->fork(engine.get()));
    }
    for (const Sized* size : {&large, &small}) {
      RAMET_ASSIGN_OR_RETURN(figures.emplace_back(), size->fork_from_shell(engine.get()));
    }
  }
  return figures;
}

StatusOr<std::vector<Row>> measure_sizes(const Options& options) {
  RAMET_ASSIGN_OR_RETURN(const Figures figures, in_child([&](const std::function<void()>& begin) {
                           begin();
                           return fork_sizes(options.forks);
                         }));
  Row large = {.metric = "8 GiB: first instruction"};
  Row sizes = {.metric = "8 GiB over 128 MiB"};
  Row shell = {.metric = "from a shell: 8 GiB over 128 MiB", .bar = kLargeShellBar};
  // With shadow paging the memory slot itself grows, the floor's as ours.
  if (figures[0] != 0) {
    sizes.bar = kLargeSmallBar;
  } else {
    large.bar = kLargeBar;
  }
  for (size_t i = 1; i < figures.size(); i += 5) {
    large.b.push_back(figures[i]);
    large.a.push_back(figures[i + 1]);
    sizes.a.push_back(figures[i + 1]);
    sizes.b.push_back(figures[i + 2]);
    shell.a.push_back(figures[i + 3]);
    shell.b.push_back(figures[i + 4]);
  }
  return std::vector<Row>{large, sizes, shell};
}

StatusOr<std::vector<Row>> measure_growth(const Options& options) {
  std::vector<Row> rows;
  const std::string many = std::to_string(options.processes);
  Curves one("one process");
  Curves sharded("an engine's " + many + " processes");
  Curves engines(many + " engines, a process each");
  for (int round = 0; options.workers_only && round < options.rounds; ++round) {
    RAMET_RETURN_IF_ERROR(add_sharded_round(options, &sharded));
  }
  if (options.workers_only) {
    return sharded.rows();
  }
  for (int round = 0; round < options.rounds; ++round) {
    RAMET_RETURN_IF_ERROR(add_round(options, 1, &one));
    RAMET_RETURN_IF_ERROR(add_sharded_round(options, &sharded));
    RAMET_RETURN_IF_ERROR(add_round(options, options.processes, &engines));
  }
  for (const Curves* curves : {&one, &sharded, &engines}) {
    std::ranges::copy(curves->rows(), std::back_inserter(rows));
  }
  RAMET_ASSIGN_OR_RETURN(rows.emplace_back(), measure_faults(options));
  return rows;
}

StatusOr<std::vector<Row>> measure(const Options& options) {
  std::vector<Row> rows;
  if (!options.sizes_only) {
    RAMET_ASSIGN_OR_RETURN(rows, measure_growth(options));
  }
  if (options.workers_only) {
    return rows;
  }
  RAMET_ASSIGN_OR_RETURN(auto sizes, measure_sizes(options));
  std::ranges::move(sizes, std::back_inserter(rows));
  return rows;
}

int run(const Options& options) {
  return report({.program = "growth_bench",
                 .name = "growth",
                 .title = std::to_string(options.machines) + " small guests alive, " +
                          std::to_string(options.rounds) + " rounds by turns with bare VMs",
                 .json = options.json},
                measure(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("What one more fork costs when many live, beside as many bare VMs.");
  app.add_option("--machines", options.machines, "alive at the end")
      ->check(CLI::Range(100, 100'000));
  app.add_option("--rounds", options.rounds, "of everything")->check(CLI::Range(1, 1000));
  app.add_option("--processes", options.processes, "that both sides are spread over as well")
      ->check(CLI::Range(2, 10));
  app.add_option("--callers", options.callers, "threads that fork at the same time")
      ->check(CLI::Range(1, 64));
  app.add_option("--forks", options.forks, "of guests of 8 GiB")->check(CLI::Range(1, 100'000));
  app.add_flag("--sizes-only", options.sizes_only, "only the guests of 8 GiB");
  app.add_flag("--workers-only", options.workers_only, "only an engine with worker processes");
  app.add_option("--json", options.json, "also write every sample to this file");
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
