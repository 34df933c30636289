#include "bench/population.h"

#include <unistd.h>

#include <atomic>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench/floor.h"
#include "bench/small_guest.h"
#include "vmm/base/clock.h"

namespace ramet::bench {
namespace {

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }

Status floor_status(const FloorResult& result) {
  return result.failed == nullptr
             ? Status()
             : errno_status(result.error, std::string("the floor's ") + result.failed);
}

uint64_t used_ns(clockid_t clock) {
  timespec used = {};
  ::clock_gettime(clock, &used);
  return static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
}

// Of this process and its children, all threads of theirs.
uint64_t processor_ns() {
  uint64_t total = used_ns(CLOCK_PROCESS_CPUTIME_ID);
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream children(task.path() / "children");
    for (pid_t pid = 0; children >> pid;) {
      clockid_t clock = 0;
      if (::clock_getcpuclockid(pid, &clock) == 0) {
        total += used_ns(clock);
      }
    }
  }
  return total;
}

void in_threads(int count, const std::function<void()>& what) {
  std::vector<std::thread> threads;
  for (int i = 1; i < count; ++i) {
    threads.emplace_back(what);
  }
  what();
  for (std::thread& thread : threads) {
    thread.join();
  }
}

// Forks that stay until the process ends, made by several threads.
class Forks {
 public:
  Forks(Engine* engine, const std::shared_ptr<const TemplateData>& from, int machines)
      : engine_(*engine),
        from_(*from),
        spec_({.shells = engine->make_shells(from),
               .learned = std::make_shared<helper::LearnedSet>()}),
        figures_(static_cast<size_t>(machines)) {}

  void make_all(int callers) {
    in_threads(callers, [this] { make(); });
  }
  const Status& failed() const { return failed_; }
  Figures& figures() { return figures_; }

 private:
  void make() {
    for (size_t mine = next_++; mine < figures_.size(); mine = next_++) {
      const uint64_t before = monotonic_ns();
      auto machine = fork_answering(&engine_, from_, spec_);
      figures_[mine] = us(monotonic_ns() - before);
      const std::lock_guard lock(mutex_);
      failed_.Update(machine.status());
      if (!machine.ok()) {
        return;
      }
      live_.push_back(*std::move(machine));
    }
  }

  Engine& engine_;
  const TemplateData& from_;
  const ForkSpec spec_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  Status failed_;
  Figures figures_;
  std::vector<std::unique_ptr<ForkedMachine>> live_;
};

}  // namespace

StatusOr<Figures> grow_floor(const Population& what, const std::function<void()>& begin) {
  FloorResult why;
  const FloorTemplatePtr floor = make_floor_template(what.memory_bytes, &why);
  RAMET_RETURN_IF_ERROR(floor_status(why));
  RAMET_RETURN_IF_ERROR(floor_status(floor_fork_once(*floor)));
  begin();
  Figures figures(static_cast<size_t>(what.machines));
  std::atomic<size_t> next{0};
  std::mutex mutex;
  Status failed;
  const uint64_t processor = processor_ns();
  const uint64_t start = monotonic_ns();
  in_threads(what.callers, [&] {
    for (size_t mine = next++; mine < figures.size(); mine = next++) {
      const FloorResult result = floor_fork_and_keep(*floor);
      figures[mine] = us(result.total_ns);
      const std::lock_guard lock(mutex);
      failed.Update(floor_status(result));
    }
  });
  const uint64_t end = monotonic_ns();
  RAMET_RETURN_IF_ERROR(failed);
  figures.push_back(us(processor_ns() - processor));
  figures.push_back(us(end - start));
  return figures;
}

StatusOr<Figures> grow_forks(const Population& what, const std::function<void()>& begin,
                             const std::function<Status(Engine*)>& done) {
  const auto workers = static_cast<uint32_t>(what.worker_processes);
  RAMET_ASSIGN_OR_RETURN(
      auto engine,
      Engine::create({.ready_shells = what.ready_shells,
                      .worker_processes = workers,
                      .machines_here = static_cast<uint32_t>(what.machines) / (workers + 1)}));
  RAMET_ASSIGN_OR_RETURN(const auto from, make_answering_template(engine.get(), what.memory_bytes));
  // One before, which is killed: what a process does once is not the first fork's.
  RAMET_RETURN_IF_ERROR(fork_answering(engine.get(), *from).status());
  auto forks = std::make_unique<Forks>(engine.get(), from, what.machines);
  begin();
  const uint64_t processor = processor_ns();
  const uint64_t start = monotonic_ns();
  forks->make_all(what.callers);
  const uint64_t end = monotonic_ns();
  const uint64_t used = processor_ns() - processor;
  RAMET_RETURN_IF_ERROR(forks->failed());
  if (done) {
    RAMET_RETURN_IF_ERROR(done(engine.get()));
  }
  Figures figures = std::move(forks->figures());
  figures.push_back(us(used));
  figures.push_back(us(end - start));
  // Until the process ends.
  static_cast<void>(forks.release());
  static_cast<void>(new std::shared_ptr<Engine>(std::move(engine)));
  return figures;
}

}  // namespace ramet::bench
