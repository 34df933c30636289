// Forks of a Debian guest's template for a bench that is another program: says "ready" when the
// template is there, then answers each line of its input with the microseconds from the call of
// fork() to the guest's first reply. The fork is torn down before the answer.
//
// usage: fork_on_request --kernel-tree DIR --rootfs IMG [--memory-mib N]
//   fork       with the options that a user has by default
//   fork-new   without a machine made ahead
#include <chrono>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>

#include <ramet/sandbox.h>

#include "bench/linux_guest.h"

namespace ramet::bench {
namespace {

constexpr std::chrono::seconds kPatience(30);

StatusOr<double> first_reply_us(const sandbox::Template& from,
                                const sandbox::ForkOptions& options) {
  RAMET_ASSIGN_OR_RETURN(sandbox::Sandbox box, sandbox::fork(from, options));
  const auto reply = box.metrics().clocks.first_agent_reply;
  box.kill();
  RAMET_RETURN_IF_ERROR(box.wait_gone(kPatience));
  if (!reply) {
    return absl::InternalError("a fork without the time of its first reply");
  }
  return std::chrono::duration<double, std::micro>(*reply).count();
}

StatusOr<sandbox::ForkOptions> options_of(const std::string& request) {
  if (request == "fork") {
    return sandbox::ForkOptions();
  }
  if (request == "fork-new") {
    return sandbox::ForkOptions{.shell = sandbox::ShellUse::kNone};
  }
  return absl::InvalidArgumentError("a request is fork or fork-new, not " + request);
}

Status serve(const LinuxGuest& guest) {
  RAMET_ASSIGN_OR_RETURN(auto engine,
                         sandbox::Engine::create({.scratch_directory = guest.scratch_directory}));
  RAMET_ASSIGN_OR_RETURN(const sandbox::Template from, build_linux_template(guest, engine));
  // Machines are made ahead from the first fork on.
  RAMET_RETURN_IF_ERROR(first_reply_us(from, {}).status());
  std::cout << "ready" << std::endl;
  for (std::string request; std::getline(std::cin, request);) {
    RAMET_ASSIGN_OR_RETURN(const sandbox::ForkOptions options, options_of(request));
    RAMET_ASSIGN_OR_RETURN(const double took, first_reply_us(from, options));
    std::cout << took << std::endl;
  }
  return Status();
}

int run(const LinuxGuest& guest) {
  const Status status = serve(guest);
  if (!status.ok()) {
    std::cerr << "fork_on_request: " << status.ToString() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace ramet::bench

// An exception of CLI11 or of the standard library may end a bench.
int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape)
  ramet::bench::LinuxGuest guest;
  CLI::App app("Forks when a line of its input asks for one, and says how long each took.");
  add_options(&app, &guest);
  CLI11_PARSE(app, argc, argv);
  return ramet::bench::run(guest);
}
