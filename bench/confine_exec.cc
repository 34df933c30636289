#include "bench/confine_exec.h"

#include <array>
#include <chrono>
#include <filesystem>
#include <string>

#include <ramet/sandbox.h>

namespace ramet::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kCommands = 5;
const std::vector<std::string> kNothing = {"/bin/true"};
const std::vector<std::string> kOutput = {"head", "-c", "1048576", "/dev/zero"};

struct Mode {
  sandbox::Confinement confinement;
  sandbox::Isolation isolation;
  std::optional<sandbox::Template> from = {};
  std::vector<double> reply = {};    // of the agent, from the call of fork()
  std::vector<double> first = {};    // the first command, alone
  std::vector<double> further = {};  // those after it
  std::vector<double> output = {};   // one that prints 1 MiB
};

double us(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

StatusOr<std::shared_ptr<sandbox::Engine>> make_engine(const LinuxGuest& guest, const Mode& mode) {
  return sandbox::Engine::create({.scratch_directory = guest.scratch_directory,
                                  .confinement = mode.confinement,
                                  .require_confinement = true});
}

StatusOr<double> time_command(sandbox::Sandbox* box, const std::vector<std::string>& argv) {
  const auto start = Clock::now();
  RAMET_ASSIGN_OR_RETURN(const sandbox::ExecResult result, box->exec(argv));
  const double took = us(Clock::now() - start);
  if (!result.ok()) {
    return absl::InternalError(argv[0] + " in the guest failed");
  }
  return took;
}

Status fork_once(Mode* mode) {
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox box,
                         sandbox::fork(*mode->from, {.isolation = mode->isolation}));
  mode->reply.push_back(us(box.metrics().clocks.first_agent_reply.value_or(Clock::duration{})));
  RAMET_ASSIGN_OR_RETURN(const double first, time_command(&box, kNothing));
  mode->first.push_back(first);
  for (int i = 0; i < kCommands; ++i) {
    RAMET_ASSIGN_OR_RETURN(const double took, time_command(&box, kNothing));
    mode->further.push_back(took);
  }
  RAMET_ASSIGN_OR_RETURN(const double output, time_command(&box, kOutput));
  mode->output.push_back(output);
  box.kill();
  return box.wait_gone(std::chrono::seconds(30));
}

void forget(Mode* mode) {
  for (auto* samples : {&mode->reply, &mode->first, &mode->further, &mode->output}) {
    samples->clear();
  }
}

void add_rows(const std::string& what, const Mode& a, const Mode& b, std::vector<Row>* rows) {
  rows->push_back({.metric = what + ": agent's reply", .a = a.reply, .b = b.reply});
  rows->push_back({.metric = what + ": first command", .a = a.first, .b = b.first});
  rows->push_back({.metric = what + ": further command", .a = a.further, .b = b.further});
  rows->push_back({.metric = what + ": 1 MiB of output", .a = a.output, .b = b.output});
}

}  // namespace

StatusOr<std::vector<Row>> measure_exec(const LinuxGuest& guest, int forks) {
  std::array<Mode, 3> modes = {Mode{sandbox::Confinement::kEnforce, sandbox::Isolation::kInProcess},
                               Mode{sandbox::Confinement::kOff, sandbox::Isolation::kInProcess},
                               Mode{sandbox::Confinement::kEnforce, sandbox::Isolation::kProcess}};
  // One template for all: built by the first engine, loaded by the others.
  const std::string place = guest.scratch_directory + "/confine-bench-template";
  std::filesystem::remove_all(place);
  for (Mode& mode : modes) {
    RAMET_ASSIGN_OR_RETURN(auto engine, make_engine(guest, mode));
    if (!std::filesystem::exists(place)) {
      RAMET_ASSIGN_OR_RETURN(const sandbox::Template built, build_linux_template(guest, engine));
      RAMET_RETURN_IF_ERROR(built.save(place));
    }
    RAMET_ASSIGN_OR_RETURN(mode.from, sandbox::Template::load(place, {.engine = engine}));
    RAMET_RETURN_IF_ERROR(fork_once(&mode));
    forget(&mode);
  }
  for (int i = 0; i < forks; ++i) {
    for (size_t turn = 0; turn < modes.size(); ++turn) {
      RAMET_RETURN_IF_ERROR(fork_once(&modes[(static_cast<size_t>(i) + turn) % modes.size()]));
    }
  }
  std::filesystem::remove_all(place);
  std::vector<Row> rows;
  add_rows("filters", modes[0], modes[1], &rows);
  add_rows("helper process", modes[2], modes[0], &rows);
  return rows;
}

}  // namespace ramet::bench
