// What limits cost: counting an exit, looking at memory, a fork that is watched, the gate before a
// fork; and how far a guest gets past a limit of memory before it ends.
//
// usage: limits_bench [--runs N] [--json FILE]
#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "bench/report.h"
#include "bench/samples.h"
#include "bench/small_guest.h"
#include "lib/core/pressure_gate.h"
#include "lib/instance/limit_watch.h"
#include "tests/support/guest_code.h"
#include "vmm/base/clock.h"
#include "vmm/memory/pagemap.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSecond = 1'000'000'000;
// docs/specification.md: an exit that is counted beside one that is not.
constexpr double kExitBar = 1.03;

struct Options {
  int runs = 50;
  std::string json;
};

// Counted against a rate that is never reached.
constexpr RateLimits kNeverReached = {.exits = {.per_second = 1'000'000'000},
                                      .interrupts = {.per_second = 1'000'000'000}};

double us_each(uint64_t ns, uint64_t count) {
  return static_cast<double>(ns) / 1e3 / static_cast<double>(std::max<uint64_t>(count, 1));
}

StatusOr<testing::Box> exiting_box(const RateLimits& rates) {
  RAMET_ASSIGN_OR_RETURN(auto kvm, Kvm::open());
  RAMET_ASSIGN_OR_RETURN(auto box, testing::make_box(std::move(kvm), testing::Program::kHello));
  box.ports->count_only();
  box.machine->set_rates(rates);
  return box;
}

// One exit of a running guest, in microseconds, over a twentieth of a second.
StatusOr<double> exit_us(Machine* machine) {
  RAMET_RETURN_IF_ERROR(machine->resume());
  const uint64_t before = machine->exits();
  const uint64_t start = monotonic_ns();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const uint64_t exits = machine->exits() - before;
  const uint64_t took = monotonic_ns() - start;
  RAMET_RETURN_IF_ERROR(machine->pause());
  return us_each(took, exits);
}

Status measure_exits(int runs, std::vector<Row>* rows) {
  Row row = {.metric = "an exit: counted, not counted", .bar = kExitBar};
  RAMET_ASSIGN_OR_RETURN(const auto counted, exiting_box(kNeverReached));
  RAMET_ASSIGN_OR_RETURN(const auto plain, exiting_box({}));
  for (int i = 0; i < runs; ++i) {
    RAMET_ASSIGN_OR_RETURN(const double a, exit_us(counted.machine.get()));
    RAMET_ASSIGN_OR_RETURN(const double b, exit_us(plain.machine.get()));
    row.a.push_back(a);
    row.b.push_back(b);
  }
  rows->push_back(std::move(row));
  return Status();
}

void measure_counting(int runs, std::vector<Row>* rows) {
  Row row = {.metric = "the counting alone: an exit, an interrupt", .unit = "ns"};
  constexpr uint64_t kTimes = 1'000'000;
  Governor governor;
  governor.set_limits(kNeverReached);
  for (int i = 0; i < runs; ++i) {
    uint64_t left = 0;
    const uint64_t start = monotonic_ns();
    for (uint64_t n = 0; n < kTimes; ++n) {
      left = left != 0 && governor.wait_until_ns() == 0
                 ? left
                 : governor.lease_exits(monotonic_ns()).exits;
      --left;
    }
    const uint64_t middle = monotonic_ns();
    for (uint64_t n = 0; n < kTimes; ++n) {
      static_cast<void>(governor.count_interrupt(monotonic_ns()));
    }
    row.a.push_back(us_each(middle - start, kTimes) * 1e3);
    row.b.push_back(us_each(monotonic_ns() - middle, kTimes) * 1e3);
  }
  rows->push_back(std::move(row));
}

struct View {
  UniqueFd file;
  std::unique_ptr<GuestMemory> memory;
};

StatusOr<View> private_view(uint64_t bytes) {
  View view;
  RAMET_ASSIGN_OR_RETURN(view.file, create_memfd("ramet-bench", bytes));
  RAMET_ASSIGN_OR_RETURN(
      view.memory,
      GuestMemory::create(view.file.get(), testing::small_regions(bytes), MapMode::kPrivate));
  return view;
}

// Writes one byte of each page of [from, to) until told to stop.
Status dirty(const GuestMemory& memory, uint64_t from, uint64_t to, const std::atomic<bool>& stop) {
  for (uint64_t at = from; at < to && !stop; at += kPageSize) {
    RAMET_RETURN_IF_ERROR(memory.write_object(GuestAddr{at}, uint8_t{1}));
  }
  return Status();
}

Status measure_samples(int runs, std::vector<Row>* rows) {
  const std::atomic<bool> never = false;
  RAMET_ASSIGN_OR_RETURN(const auto pagemap, Pagemap::open());
  for (const uint64_t own : {0U, 16U, 256U}) {
    RAMET_ASSIGN_OR_RETURN(const View view, private_view(1024 * kMiB));
    RAMET_RETURN_IF_ERROR(dirty(*view.memory, 0, own * kMiB, never));
    Row row = {.metric = "a look at 1 GiB, " + std::to_string(own) + " MiB own: scan, entries"};
    for (int i = 0; i < runs; ++i) {
      const uint64_t start = monotonic_ns();
      const auto scanned = pagemap->private_bytes(*view.memory, Pagemap::Way::kScan);
      const uint64_t middle = monotonic_ns();
      RAMET_RETURN_IF_ERROR(pagemap->private_bytes(*view.memory, Pagemap::Way::kRead).status());
      row.b.push_back(us_each(monotonic_ns() - middle, 1));
      if (scanned.ok()) {
        row.a.push_back(us_each(middle - start, 1));
      }
    }
    rows->push_back(std::move(row));
  }
  return Status();
}

// A machine that writes its memory as fast as this processor can.
class Writer : public WatchedMachine {
 public:
  explicit Writer(GuestMemory* memory) : memory_(*memory) {}
  StatusOr<uint64_t> cpu_ns() override { return 0; }
  StatusOr<uint64_t> private_bytes(const Pagemap& pagemap) override {
    return pagemap.private_bytes(memory_);
  }
  void count_cpu(uint64_t) override {}
  void end(const MachineEnd& end) override {
    hit_ = end.limit;
    stop_ = true;
  }
  std::shared_ptr<jail::Tenant> tenant() override { return nullptr; }

  Status run() { return dirty(memory_, 0, memory_.total_bytes(), stop_); }
  const std::optional<LimitHit>& hit() const { return hit_; }

 private:
  GuestMemory& memory_;
  std::optional<LimitHit> hit_;
  std::atomic<bool> stop_{false};
};

Status measure_overshoot(int runs, std::vector<Row>* rows) {
  constexpr uint64_t kAllowed = 64 * kMiB;
  Row row = {.metric = "private memory past 64 MiB: seen, in all", .unit = "MiB"};
  RAMET_ASSIGN_OR_RETURN(const auto jail, jail::Jail::create({.mode = jail::Mode::kOff}));
  RAMET_ASSIGN_OR_RETURN(const auto pagemap, Pagemap::open());
  LimitWatch watch(jail.get());
  for (int i = 0; i < runs; ++i) {
    RAMET_ASSIGN_OR_RETURN(const View view, private_view(2048 * kMiB));
    Writer writer(view.memory.get());
    RAMET_ASSIGN_OR_RETURN(const uint64_t id, watch.add(&writer, {.private_bytes = kAllowed}, 1));
    const Status wrote = writer.run();
    watch.remove(id);
    RAMET_RETURN_IF_ERROR(wrote);
    if (!writer.hit()) {
      return absl::InternalError("2 GiB were written before a limit of 64 MiB was seen");
    }
    RAMET_ASSIGN_OR_RETURN(const uint64_t all, pagemap->private_bytes(*view.memory));
    row.a.push_back(static_cast<double>(writer.hit()->used - kAllowed) / kMiB);
    row.b.push_back(static_cast<double>(all - kAllowed) / kMiB);
  }
  rows->push_back(std::move(row));
  return Status();
}

Status measure_forks(int runs, std::vector<Row>* rows) {
  Row row = {.metric = "fork to first exit: watched, without limits"};
  RAMET_ASSIGN_OR_RETURN(const auto engine, Engine::create({}));
  RAMET_ASSIGN_OR_RETURN(const auto from, make_small_template(engine.get(), 128 * kMiB));
  const InstanceLimits limits = {.wall_ns = 3'600 * kSecond,
                                 .cpu_ns = 3'600 * kSecond,
                                 .private_bytes = 64 * kMiB,
                                 .rates = kNeverReached};
  for (int i = 0; i < 10 * runs; ++i) {
    RAMET_ASSIGN_OR_RETURN(const SmallFork a, fork_small_once(engine.get(), *from, limits));
    RAMET_ASSIGN_OR_RETURN(const SmallFork b, fork_small_once(engine.get(), *from));
    row.a.push_back(us_each(a.first_exit, 1));
    row.b.push_back(us_each(b.first_exit, 1));
  }
  rows->push_back(std::move(row));
  return Status();
}

void measure_gate(int runs, std::vector<Row>* rows) {
  Row row = {.metric = "the gate: reading the host's figures, a reading at hand"};
  PressureGate gate({});
  HostPressure host;
  static_cast<void>(host.read());
  for (int i = 0; i < 10 * runs; ++i) {
    const uint64_t start = monotonic_ns();
    static_cast<void>(host.read());
    row.a.push_back(us_each(monotonic_ns() - start, 1));
    static_cast<void>(gate.enter(0));
    const uint64_t again = monotonic_ns();
    static_cast<void>(gate.enter(0));
    row.b.push_back(us_each(monotonic_ns() - again, 1));
  }
  rows->push_back(std::move(row));
}

StatusOr<std::vector<Row>> measure(int runs) {
  std::vector<Row> rows;
  measure_counting(runs, &rows);
  measure_gate(runs, &rows);
  for (const auto& each : {measure_exits, measure_forks, measure_samples, measure_overshoot}) {
    RAMET_RETURN_IF_ERROR(each(runs, &rows));
  }
  return rows;
}

int run(const Options& options) {
  return report({.program = "limits_bench",
                 .name = "limits",
                 .title = "limits",
                 .json = options.json,
                 .sides = {"first", "second"}},
                measure(options.runs));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("What limits cost, and how far a guest gets past them.");
  app.add_option("--runs", options.runs, "of each measurement")->check(CLI::Range(1, 100'000));
  app.add_option("--json", options.json, "also write every sample to this file");
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
