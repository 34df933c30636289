// The command line of `ramet` as a value.
//
// Thread rule: pure functions.
// Invariant: words after the first "--" are the command for the guest and are never looked at.
#ifndef RAMET_EXAMPLES_CLI_ARGUMENTS_H_
#define RAMET_EXAMPLES_CLI_ARGUMENTS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <ramet/options.h>

namespace cli {

enum class Verb : uint8_t {
  kHelp,     // Arguments::help holds what to print
  kInvalid,  // Arguments::error says why
  kRun,
  kTemplateBuild,
  kTemplateList,
  kTemplateRemove,
  kDoctor,
  kVersion,
};

struct Arguments {
  Verb verb = Verb::kInvalid;
  std::string help;
  std::string error;
  bool for_run = false;  // the words asked for `run`, even when they are invalid
  bool json = false;
  bool seccomp = false;  // doctor: only what filters allow
  bool quiet = false;

  std::string dir;                 // --dir; empty: the default directory of templates
  std::vector<std::string> names;  // of templates; one but for `template rm`
  std::string kvm_device;          // --kvm; empty: the library's default

  // template build
  std::string rootfs;
  std::string kernel;
  std::string kernel_tree;
  uint64_t memory_bytes = 0;
  uint32_t vcpus = 1;
  uint64_t scratch_bytes = 0;
  std::vector<std::string> warmups;
  std::string extra_command_line;
  std::chrono::milliseconds boot_timeout{};

  // run; `console` and `clocks` are flags
  std::vector<std::string> command;
  std::vector<std::string> env;
  std::string cwd;
  std::string user;
  std::string hostname;
  std::chrono::milliseconds timeout{};
  sandbox::Limits limits;
  bool interactive = false;
  bool clocks = false;
  bool console = false;
  bool isolate = false;  // in a process of its own
  std::string cgroup;    // whose control group is made in this one; doctor: can it be?
};

// `words` are argv without the program's name.
Arguments parse_arguments(const std::vector<std::string>& words);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_ARGUMENTS_H_
