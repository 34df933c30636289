// The long texts of `ramet --help`: what each command is for, with examples.
//
// Thread rule: constants.
// Invariant: every example is a command line that works as it stands, given a template of that
// name.
#ifndef RAMET_EXAMPLES_CLI_HELP_H_
#define RAMET_EXAMPLES_CLI_HELP_H_

#include <string_view>

namespace cli::help {

inline constexpr std::string_view kProgram =
    "Ramet boots a Linux guest once, freezes it as a template, and forks it: each run is a fresh\n"
    "machine with its own memory, disk, randomness and identity.";
inline constexpr std::string_view kProgramMore =
    "A first session:\n"
    "  ramet doctor                                     what this host can do\n"
    "  ramet template build py --rootfs python.img --warmup 'python3 -c \"import json\"'\n"
    "  ramet run py -- python3 -c 'print(2 + 2)'\n"
    "\n"
    "Templates lie in --dir DIR, else $RAMET_TEMPLATES, else $XDG_DATA_HOME/ramet/templates, else\n"
    "~/.local/share/ramet/templates. A template that is written with a slash is a directory.\n"
    "With --json every command prints one JSON document on standard output.\n"
    "`ramet COMMAND --help` tells more.";

inline constexpr std::string_view kRun =
    "Forks TEMPLATE, runs COMMAND in the fork, and ends with its exit code. The fork is gone\n"
    "afterwards.";
inline constexpr std::string_view kRunMore =
    "Examples:\n"
    "  ramet run py -- python3 -c 'print(2 + 2)'\n"
    "  echo 'print(6 * 7)' | ramet run py -- python3 -\n"
    "  ramet run py --env MODE=test --cwd /tmp --user nobody -- sh -c 'id; env; pwd'\n"
    "  ramet run py --timeout 2s -- sleep 60            ends with 124\n"
    "  ramet run py --limit memory=64M --limit wall=30s -- python3 -c 'bytearray(10**9)'\n"
    "  ramet run ./some/dir/py --clocks -- true         prints what the fork cost\n"
    "\n"
    "Standard input goes to the command when it is not a terminal, or with -i. In a loop that "
    "reads\n"
    "its own input, say </dev/null.\n"
    "\n"
    "Limits (--limit NAME=VALUE; 0: none):\n"
    "  wall=TIME        of the fork's life           memory=SIZE      its own memory\n"
    "  cpu=TIME         of processors, in all        disk=SIZE        what its disk holds\n"
    "  cpu-rate=TIME    the same in one second       output=SIZE      of the command\n"
    "  exits=N          to Ramet in one second       interrupts=N     in one second\n"
    "  connections=N    open at once                 disk-rate=SIZE   in one second\n"
    "A limit that is reached ends the run. cpu-rate, exits, interrupts and disk-rate slow it down\n"
    "instead, unless \":end\" follows; with disk=SIZE:refuse what it writes beyond fails.\n"
    "\n"
    "Exit code: the command's; 126 it cannot be executed; 127 it was not found; 128 + N signal N\n"
    "ended it; 124 --timeout or a --limit was hit; 125 Ramet itself failed; 130 interrupted with "
    "Ctrl-C.";

inline constexpr std::string_view kTemplate = "Builds, lists and removes templates.";

inline constexpr std::string_view kBuild =
    "Boots a guest from a root file system image, runs the warm-up commands in it, freezes it, "
    "and\n"
    "saves it as template NAME.";
inline constexpr std::string_view kBuildMore =
    "Examples:\n"
    "  ramet template build py --rootfs python.img\n"
    "  ramet template build py --rootfs python.img --memory 512M --vcpus 2 \\\n"
    "      --warmup 'python3 -c \"import json, ssl\"'\n"
    "  ramet template build py --rootfs python.img --kernel-tree ./linux-image-unpacked\n"
    "\n"
    "The image is not copied: it must stay where it is, unchanged, for as long as the template is\n"
    "used. Without --kernel and --kernel-tree the newest kernel of this host is taken.\n"
    "A template is there whole or not at all: Ctrl-C leaves nothing behind.";

inline constexpr std::string_view kList = "Lists the templates, damaged ones with what is wrong.";
inline constexpr std::string_view kRemove = "Removes templates.";
inline constexpr std::string_view kRemoveMore =
    "Examples:\n"
    "  ramet template rm py\n"
    "  ramet template rm ./some/dir/py                  only if that directory is a template\n"
    "\n"
    "Forks that run go on. Root file system images are not touched.";

inline constexpr std::string_view kDoctor =
    "Says what this host offers: the kind of its KVM and what follows, capabilities, versions,\n"
    "limits, confinement. Ends with 0 when templates can be built and forked here, with 1 when\n"
    "not; with --seccomp, with 0 when filters can be made here.";
inline constexpr std::string_view kVersion = "Prints the version.";

}  // namespace cli::help

#endif  // RAMET_EXAMPLES_CLI_HELP_H_
