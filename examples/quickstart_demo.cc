// The program behind examples/quickstart: one template, three forks that live at the same time, a
// Python command in each, and what every step took.
//
// usage: quickstart_demo ROOTFS KERNEL_TREE TEMPLATE_DIR
// TEMPLATE_DIR is loaded when it is there and fits this host, else built and saved.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <absl/strings/str_split.h>

#include <ramet/sandbox.h>

#include "examples/cli/clocks.h"
#include "examples/cli/output.h"
#include "examples/cli/staging.h"
#include "examples/cli/table.h"
#include "examples/cli/units.h"

namespace {

using SteadyClock = std::chrono::steady_clock;

// In an emulated machine on a busy host a boot takes minutes, and a command one.
constexpr std::chrono::minutes kPatience{5};
constexpr size_t kForks = 3;
constexpr std::string_view kProgram =
    "import os; print(sum(n * n for n in range(1000)), os.urandom(8).hex())";
constexpr std::string_view kSum = "332833500";

// Prints what happened since `since`, and begins anew.
void step(const std::string& what, SteadyClock::time_point& since) {
  const auto now = SteadyClock::now();
  std::printf("  %-44s %10s\n", what.c_str(), cli::format_duration(now - since).c_str());
  std::fflush(stdout);
  since = now;
}

struct Paths {
  std::string rootfs;
  std::string tree;       // of the kernel
  std::string directory;  // of the template
};

absl::StatusOr<sandbox::Template> build(const Paths& paths,
                                        const std::shared_ptr<sandbox::Engine>& engine) {
  auto since = SteadyClock::now();
  std::string running;
  sandbox::TemplateOptions options;
  options.kernel = sandbox::Kernel::from_tree(paths.tree);
  options.rootfs = paths.rootfs;
  options.engine = engine;
  options.warmup = {"python3", "-c", "import os"};
  options.boot_timeout = kPatience;
  options.progress = [&](const sandbox::BuildProgress& progress) {
    if (!running.empty()) {
      step("build: " + running, since);
    }
    running = progress.done < progress.total ? progress.step : std::string_view();
  };
  auto built = sandbox::Template::build(options);
  if (!running.empty()) {
    step("build: " + running, since);
  }
  return built;
}

absl::StatusOr<sandbox::Template> load_or_build(const Paths& paths,
                                                const std::shared_ptr<sandbox::Engine>& engine) {
  auto since = SteadyClock::now();
  if (std::filesystem::exists(paths.directory)) {
    auto loaded =
        sandbox::Template::load(paths.directory, {.rootfs = paths.rootfs, .engine = engine});
    if (loaded.ok()) {
      step("template of the last run loaded", since);
      return loaded;
    }
    std::printf("  the template of the last run does not fit: %s\n",
                cli::printable(std::string(loaded.status().message())).c_str());
    if (absl::Status status = cli::remove_directory(paths.directory); !status.ok()) {
      return status;
    }
  }
  auto built = build(paths, engine);
  if (!built.ok()) {
    return built;
  }
  since = SteadyClock::now();
  if (absl::Status status = built->save(paths.directory); !status.ok()) {
    return status;
  }
  step("template saved", since);
  return built;
}

struct Fork {
  sandbox::Sandbox box;
  std::string computed;
  std::string random;
};

absl::StatusOr<Fork> fork_and_run(const sandbox::Template& from) {
  auto box = sandbox::fork(from, {.ready_timeout = kPatience});
  if (!box.ok()) {
    return box.status();
  }
  const auto result = box->exec({"python3", "-c", std::string(kProgram)}, {.timeout = kPatience});
  if (!result.ok()) {
    return result.status();
  }
  const std::vector<std::string> words =
      absl::StrSplit(result->stdout_data, absl::ByAnyChar(" \n"));
  if (!result->ok() || words.size() < 2) {
    return absl::UnknownError("python3 ended with " + std::to_string(result->exit_code) + ": " +
                              result->stderr_data);
  }
  return Fork{.box = *std::move(box), .computed = words[0], .random = words[1]};
}

absl::Status print_table(std::vector<Fork>& forks) {
  cli::Table table({"fork", "host name", "computed", "urandom", "shell", "instruction", "reply",
                    "exec", "teardown"});
  size_t number = 0;
  for (Fork& fork : forks) {
    const std::string hostname = fork.box.hostname();
    fork.box.kill();
    if (absl::Status gone = fork.box.wait_gone(std::chrono::seconds(30)); !gone.ok()) {
      return gone;
    }
    std::vector<std::string> row = {std::to_string(++number), hostname, fork.computed, fork.random};
    for (const cli::Clock& clock : cli::clock_list(fork.box.metrics().clocks)) {
      row.push_back(cli::format_clock(clock.value));
    }
    table.add(row);
  }
  std::printf("\n%s\n", table.text(2).c_str());
  std::printf(
      "  the clocks, from the call of fork(): shell = the machine is made and restored; "
      "instruction "
      "= its first exit\n  was seen; reply = reseeded and answering; exec = the command ended. "
      "teardown counts from kill().\n\n");
  return absl::OkStatus();
}

absl::Status check(const std::vector<Fork>& forks) {
  std::set<std::string> values;
  for (const Fork& fork : forks) {
    values.insert(fork.random);
    if (fork.computed != kSum || fork.random.size() != 16) {
      return absl::DataLossError("a fork printed \"" + fork.computed + " " + fork.random + "\"");
    }
  }
  return values.size() == kForks ? absl::OkStatus()
                                 : absl::DataLossError("two forks drew the same random bytes");
}

absl::Status run(const Paths& paths) {
  sandbox::EngineOptions options;
  if (const auto temporary = cli::environment_variable("TMPDIR"); temporary) {
    options.scratch_directory = *temporary;
  }
  const auto engine = sandbox::Engine::create(options);
  if (!engine.ok()) {
    return engine.status();
  }
  const auto from = load_or_build(paths, *engine);
  if (!from.ok()) {
    return from.status();
  }
  std::printf("  Linux %s, %s of memory, %s of it stored\n", from->info().kernel_release.c_str(),
              cli::format_size(from->info().memory_bytes).c_str(),
              cli::format_size(from->info().stored_memory_bytes).c_str());
  std::vector<Fork> forks;
  auto since = SteadyClock::now();
  while (forks.size() < kForks) {
    auto fork = fork_and_run(*from);
    if (!fork.ok()) {
      return fork.status();
    }
    forks.push_back(*std::move(fork));
    step("fork " + std::to_string(forks.size()) + " made, its command run", since);
  }
  if (absl::Status status = print_table(forks); !status.ok()) {
    return status;
  }
  return check(forks);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: quickstart_demo ROOTFS KERNEL_TREE TEMPLATE_DIR\n");
    return 2;
  }
  const absl::Status status = run({argv[1], argv[2], argv[3]});
  if (!status.ok()) {
    std::fprintf(stderr, "quickstart: FAILED: %s\n", status.ToString().c_str());
    return 1;
  }
  std::printf("quickstart: ok\n");
}
