// What `ramet doctor` prints for people.
//
// Thread rule: pure functions.
// Invariant: a host that cannot run Linux guests is never called usable; every finding is shown.
#ifndef RAMET_EXAMPLES_CLI_DOCTOR_TEXT_H_
#define RAMET_EXAMPLES_CLI_DOCTOR_TEXT_H_

#include <string>

#include <ramet/host.h>

namespace cli {

// `usable` is HostReport::usable(), handed in.
std::string doctor_text(const sandbox::HostReport& report, bool usable);
// The rows of every kind of thread, each with its count.
std::string seccomp_text(const sandbox::HostReport& report);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_DOCTOR_TEXT_H_
