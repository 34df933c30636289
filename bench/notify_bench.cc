// What a queue's ioeventfd could save, and costs: notifications of a bare guest by MMIO exits, as
// Ramet's devices take them, beside an ioeventfd that another thread reads, alternating in one run.
//
// usage: notify_bench [--machines N] [--notifications N] [--json FILE]
#include <sys/eventfd.h>

#include <chrono>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>

#include "bench/floor_kvm.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "vmm/base/status.h"

namespace ramet::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kMemoryBytes = uint64_t{128} << 20;

struct Options {
  int machines = 50;
  uint64_t notifications = 2000;
  std::string json;
};

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Until its port write. By exits, each notification is one.
void run_to_port(const FloorVm& machine, Calls* calls) {
  const auto* run = static_cast<const kvm_run*>(machine.run);
  do {
    calls->io(machine.vcpu, KVM_RUN, 0, "KVM_RUN");
  } while (calls->ok() && run->exit_reason == KVM_EXIT_MMIO);
  if (calls->ok() && run->exit_reason != KVM_EXIT_IO) {
    calls->note("the guest's port write", -1);
  }
}

// The one that would do the queue's work: wakes for each notification that it finds.
class Reader {
 public:
  Reader() : fd_(::eventfd(0, EFD_CLOEXEC)), thread_([this] { read_all(); }) {}
  ~Reader() {
    stop_ = true;
    const uint64_t one = 1;
    static_cast<void>(!::write(fd_, &one, sizeof one));
    thread_.join();
    ::close(fd_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  int fd() const { return fd_; }

 private:
  void read_all() const {
    uint64_t count = 0;
    while (::read(fd_, &count, sizeof count) > 0 && !stop_) {
    }
  }
  const int fd_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

struct Rows {
  Row notification = {.metric = "a notification: ioeventfd over exit"};
  Row added = {.metric = "ioeventfd added to a live machine"};
  Row removed = {.metric = "the same taken away"};
  Row teardown = {.metric = "teardown: with one over without"};
};

void measure_exits(const FloorTemplate& floor, const Options& options, Rows* rows, Calls* calls) {
  FloorVm machine;
  FloorResult unused;
  make_vm(floor, MAP_PRIVATE, &machine, calls, &unused);
  restore(floor, machine, calls);
  const auto start = Clock::now();
  run_to_port(machine, calls);
  rows->notification.b.push_back(us_since(start) / static_cast<double>(options.notifications));
  const auto before = Clock::now();
  destroy(floor, &machine);
  rows->teardown.b.push_back(us_since(before));
}

// A machine that has run before, as one whose queue has proved busy. Every other one keeps its
// ioeventfd to the end.
void measure_ioeventfd(const FloorTemplate& floor, const Options& options, bool keeps, Rows* rows,
                       Calls* calls) {
  FloorVm machine;
  FloorResult unused;
  make_vm(floor, MAP_PRIVATE, &machine, calls, &unused);
  restore(floor, machine, calls);
  run_to_port(machine, calls);
  const Reader reader;
  kvm_ioeventfd event = {};
  event.addr = kFloorNotified;
  event.len = 4;
  event.fd = reader.fd();
  auto start = Clock::now();
  calls->io(machine.vm, KVM_IOEVENTFD, &event, "KVM_IOEVENTFD");
  rows->added.a.push_back(us_since(start));
  restore(floor, machine, calls);
  start = Clock::now();
  run_to_port(machine, calls);
  rows->notification.a.push_back(us_since(start) / static_cast<double>(options.notifications));
  if (!keeps) {
    event.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
    start = Clock::now();
    calls->io(machine.vm, KVM_IOEVENTFD, &event, "KVM_IOEVENTFD, to take it away");
    rows->removed.a.push_back(us_since(start));
  }
  start = Clock::now();
  destroy(floor, &machine);
  if (keeps) {
    rows->teardown.a.push_back(us_since(start));
  }
}

StatusOr<std::vector<Row>> measure(const Options& options) {
  FloorResult result;
  const FloorTemplatePtr floor =
      make_floor_template(kMemoryBytes, &result, {.notifications = options.notifications});
  Rows rows;
  Calls calls(&result);
  for (int i = 0; i < options.machines && calls.ok(); ++i) {
    measure_exits(*floor, options, &rows, &calls);
    measure_ioeventfd(*floor, options, i % 2 == 0, &rows, &calls);
  }
  if (!calls.ok()) {
    return errno_status(result.error, result.failed);
  }
  return std::vector<Row>{rows.notification, rows.added, rows.removed, rows.teardown};
}

int run(const Options& options) {
  return report({.program = "notify_bench",
                 .name = "notify",
                 .title = std::to_string(options.notifications) + " notifications of each of " +
                          std::to_string(options.machines) + " bare guests",
                 .json = options.json,
                 .sides = {.a = "ioeventfd", .b = "exit"}},
                measure(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("What a queue's ioeventfd could save, and costs, beside MMIO exits.");
  app.add_option("--machines", options.machines, "of each")->check(CLI::Range(2, 100'000));
  app.add_option("--notifications", options.notifications, "of each guest")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--json", options.json, "also write every sample to this file");
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
