// What a branch costs its sandbox, beside a plain copy of the same pages; and what forks of
// branches cost, beside each other.
//
// usage: branch_bench [--guest small|linux] [--forks N] [--branches N] [--memory-mib N] [--vcpus N]
//                     [--json FILE] [--kernel-tree DIR --rootfs IMG]
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/linux_guest.h"
#include "bench/report.h"
#include "bench/samples.h"
#include "bench/small_guest.h"
#include "lib/core/template_builder.h"
#include "lib/fork/branch.h"
#include "lib/fork/fork.h"
#include "vmm/base/clock.h"
#include "vmm/memory/mapping.h"

namespace ramet::bench {
namespace {

using Data = std::shared_ptr<const TemplateData>;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kPatience = 120 * kSecond;
constexpr int kDepth = 8;
constexpr uint64_t kDirtyBytes = 8 * kMiB;
// Above what malloc keeps for later (DEFAULT_MMAP_THRESHOLD_MAX, mallopt(3)): new pages each time.
constexpr uint64_t kColdBytes = 64 * kMiB;

// docs/specification.md.
constexpr double kPauseBar = 3.0;
constexpr double kDepthBar = 1.2;

struct Options {
  std::string guest = "small";
  int forks = 100;
  int branches = 50;
  uint32_t vcpus = 2;
  std::string json;
  LinuxGuest debian;
};

struct Rows {
  Row pause{.metric = "pause", .bar = kPauseBar};
  Row pages{.metric = "copied in it", .unit = "MiB"};
  Row layer{.metric = "layer made after it"};
  Row added{.metric = "memory of the layer", .unit = "MiB"};
  Row depth{.metric = "fork, depth 8 over depth 1", .bar = kDepthBar};
  Row base{.metric = "fork, depth 1 over its base"};

  std::vector<Row> all() const { return {pause, pages, layer, added, depth, base}; }
};

double us(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }
double mib(uint64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kMiB); }

// The same pages of a machine that has them as its own, to where nothing has been yet.
StatusOr<uint64_t> cold_copy_ns(const TemplateData& from, std::span<const PageRange> pages) {
  RAMET_ASSIGN_OR_RETURN(
      const auto memory,
      GuestMemory::create(from.memory->view(), from.state.machine.regions, MapMode::kPrivate));
  RAMET_RETURN_IF_ERROR(memory->populate_private(pages));
  const auto slices = memory->slices_of(pages);
  const uint64_t bytes = pages_in(pages) * kPageSize;
  const auto room = std::make_unique_for_overwrite<std::byte[]>(std::max(bytes, kColdBytes));
  std::span<std::byte> left(room.get(), bytes);
  const uint64_t start = monotonic_ns();
  for (const GuestSlice& slice : slices) {
    for (uint64_t at = 0; at < slice.size; at += kPageSize) {
      RAMET_RETURN_IF_ERROR(memory->read({slice.start.value + at}, left.first(kPageSize)));
      left = left.subspan(kPageSize);
    }
  }
  return monotonic_ns() - start;
}

// What of `image` is not in files that `below` has too.
uint64_t own_bytes(const MemoryImage& image, const MemoryImage& below) {
  if (image.fd() != below.fd()) {
    return image.stored_bytes();
  }
  uint64_t bytes = 0;
  for (const LayerPart& part : image.parts()) {
    bytes += part.where.size;
  }
  return bytes;
}

Status add_branch(StatusOr<InstanceSnapshot> snapshot, const TemplateData& from, Rows* rows,
                  Data* made) {
  RAMET_RETURN_IF_ERROR(snapshot.status());
  rows->pause.a.push_back(us(snapshot->pause_ns));
  rows->pages.a.push_back(mib(pages_in(snapshot->pages.pages()) * kPageSize));
  RAMET_ASSIGN_OR_RETURN(const uint64_t copy, cold_copy_ns(from, snapshot->pages.pages()));
  rows->pause.b.push_back(us(copy));
  const uint64_t start = monotonic_ns();
  RAMET_ASSIGN_OR_RETURN(*made, branch_of(*std::move(snapshot), from));
  rows->layer.a.push_back(us(monotonic_ns() - start));
  rows->added.a.push_back(mib(own_bytes(*(*made)->memory, *from.memory)));
  return Status();
}

// Forks of the chain's first, its last and its base by turns.
template <typename Fork>
Status compare_forks(int forks, const std::vector<Data>& chain, Rows* rows, Fork fork) {
  constexpr int kWarmUp = 3;
  for (int i = 0; i < forks + kWarmUp; ++i) {
    RAMET_ASSIGN_OR_RETURN(const uint64_t deep, fork(*chain.back()));
    RAMET_ASSIGN_OR_RETURN(const uint64_t first, fork(*chain[1]));
    RAMET_ASSIGN_OR_RETURN(const uint64_t base, fork(*chain[0]));
    if (i >= kWarmUp) {
      rows->depth.a.push_back(us(deep));
      rows->depth.b.push_back(us(first));
      rows->base.a.push_back(us(first));
      rows->base.b.push_back(us(base));
    }
  }
  return Status();
}

StatusOr<std::unique_ptr<Instance>> fork_small(Engine* engine, const TemplateData& from) {
  RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
  return restore_instance(engine, from, generation, {});
}

Status run_small(const Options& options, Rows* rows) {
  constexpr uint64_t kPages = kDirtyBytes / kPageSize;
  RAMET_ASSIGN_OR_RETURN(const auto engine, Engine::create({.ready_shells = 0}));
  RAMET_ASSIGN_OR_RETURN(
      const Data from,
      make_writer_template(engine.get(), options.debian.memory_mib * kMiB, kPages));
  RAMET_ASSIGN_OR_RETURN(auto writer, fork_small(engine.get(), *from));
  RAMET_RETURN_IF_ERROR(writer->resume());
  RAMET_RETURN_IF_ERROR(wait_written(*writer, kPages));
  std::vector<Data> chain = {from, nullptr};
  for (int i = 0; i < options.branches; ++i) {
    RAMET_RETURN_IF_ERROR(add_branch(writer->snapshot(), *from, rows, &chain[1]));
  }
  for (int depth = 2; depth <= kDepth; ++depth) {
    RAMET_ASSIGN_OR_RETURN(auto instance, fork_small(engine.get(), *chain.back()));
    RAMET_RETURN_IF_ERROR(instance->resume());
    RAMET_ASSIGN_OR_RETURN(auto snapshot, instance->snapshot());
    RAMET_ASSIGN_OR_RETURN(Data next, branch_of(std::move(snapshot), *chain.back()));
    chain.push_back(std::move(next));
  }
  return compare_forks(options.forks, chain, rows,
                       [&](const TemplateData& data) -> StatusOr<uint64_t> {
                         const uint64_t start = monotonic_ns();
                         RAMET_RETURN_IF_ERROR(fork_small(engine.get(), data).status());
                         return monotonic_ns() - start;
                       });
}

Status command(SandboxMachine* box, const std::string& script) {
  ExecSpec spec;
  spec.argv = {"sh", "-c", script};
  spec.env = default_environment();
  spec.timeout_ns = kPatience;
  RAMET_ASSIGN_OR_RETURN(const ExecOutcome outcome, box->exec(spec));
  return outcome.exit_code == 0 && !outcome.timed_out
             ? Status()
             : absl::InternalError("a command in the guest failed: " + outcome.stderr_data);
}

StatusOr<std::unique_ptr<SandboxMachine>> fork_linux(const std::shared_ptr<Engine>& engine,
                                                     const TemplateData& from) {
  return fork_sandbox(
      engine, from,
      {.ready_deadline_ns = monotonic_ns() + kPatience, .use_shell = ShellUse::kNone});
}

// A process for each vCPU that writes to its part of the pages, over and over, in no order.
Status make_busy(SandboxMachine* box, uint32_t vcpus) {
  const std::string script =
      "import random\nsize = " + std::to_string(kDirtyBytes / vcpus) +
      "\nmemory = bytearray(size)\nplaces = list(range(0, size, 4096))\nrandom.shuffle(places)\n"
      "while True:\n    for place in places:\n        memory[place] ^= 1\n";
  for (uint32_t i = 0; i < vcpus; ++i) {
    RAMET_RETURN_IF_ERROR(
        command(box, "python3 -c '" + script + "' >/dev/null 2>&1 </dev/null & sleep 0.1"));
  }
  return command(box, "sleep 3");
}

StatusOr<Data> build_linux(const Options& options, Engine* engine) {
  return build_template(engine, {.kernel_image = {},
                                 .kernel_tree = options.debian.kernel_tree,
                                 .rootfs = options.debian.rootfs,
                                 .warmups = {{"/bin/true"}},
                                 .memory_bytes = options.debian.memory_mib * kMiB,
                                 .vcpus = options.vcpus,
                                 .scratch_bytes = 64 * kMiB,
                                 .boot_timeout_ns = kPatience,
                                 .warmup_timeout_ns = kPatience,
                                 .extra_command_line = {},
                                 .console = {},
                                 .progress = {},
                                 .train = {}});
}

Status run_linux(const Options& options, Rows* rows) {
  RAMET_ASSIGN_OR_RETURN(
      const auto engine,
      Engine::create({.scratch_directory = options.debian.scratch_directory, .ready_shells = 0}));
  RAMET_ASSIGN_OR_RETURN(const Data from, build_linux(options, engine.get()));
  {
    RAMET_ASSIGN_OR_RETURN(const auto busy, fork_linux(engine, *from));
    RAMET_RETURN_IF_ERROR(make_busy(busy.get(), options.vcpus));
    Data ignored;
    for (int i = 0; i < options.branches; ++i) {
      RAMET_RETURN_IF_ERROR(
          add_branch(busy->snapshot(monotonic_ns() + kPatience), *from, rows, &ignored));
    }
    busy->kill();
    RAMET_RETURN_IF_ERROR(busy->life().wait_gone(monotonic_ns() + kPatience));
  }
  std::vector<Data> chain = {from};
  for (int depth = 1; depth <= kDepth; ++depth) {
    RAMET_ASSIGN_OR_RETURN(const auto box, fork_linux(engine, *chain.back()));
    RAMET_RETURN_IF_ERROR(command(
        box.get(), "dd if=/dev/urandom of=/dev/shm/" + std::to_string(depth) + " bs=64k count=16"));
    RAMET_ASSIGN_OR_RETURN(Data next,
                           branch_sandbox(box.get(), *chain.back(), monotonic_ns() + kPatience));
    chain.push_back(std::move(next));
  }
  return compare_forks(options.forks, chain, rows,
                       [&](const TemplateData& data) -> StatusOr<uint64_t> {
                         RAMET_ASSIGN_OR_RETURN(const auto box, fork_linux(engine, data));
                         const SandboxTimes times = box->life().times();
                         box->kill();
                         RAMET_RETURN_IF_ERROR(box->life().wait_gone(monotonic_ns() + kPatience));
                         return times.first_agent_reply - times.fork_called;
                       });
}

StatusOr<std::vector<Row>> measure(const Options& options) {
  Rows rows;
  RAMET_RETURN_IF_ERROR(options.guest == "linux" ? run_linux(options, &rows)
                                                 : run_small(options, &rows));
  return rows.all();
}

int run(const Options& options) {
  return report({.program = "branch_bench",
                 .name = "branch-" + options.guest,
                 .title = "branch, " + options.guest + " guest of " +
                          std::to_string(options.debian.memory_mib) + " MiB, 8 MiB written, " +
                          std::to_string(options.branches) + " branches beside a cold copy",
                 .json = options.json,
                 .sides = {.b = "copy"}},
                measure(options));
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::Options options;
  CLI::App app("A branch's pause beside a copy of the same pages; forks of branches.");
  app.add_option("--guest", options.guest, "small: a few instructions, any KVM; linux: with agent")
      ->check(CLI::IsMember({"small", "linux"}));
  app.add_option("--forks", options.forks, "forks of each")->check(CLI::Range(1, 1'000'000));
  app.add_option("--branches", options.branches, "to measure")->check(CLI::Range(1, 1000));
  app.add_option("--vcpus", options.vcpus, "of the guest, for linux")->check(CLI::Range(1, 8));
  app.add_option("--json", options.json, "also write every sample to this file");
  add_options(&app, &options.debian);
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(options);
}
