// Programs that misbehave one way each inside a Linux guest, with what may come of it.
//
// Thread rule: plain data.
// Invariant: every row is run by hostile_test.cc in a fresh fork; adding one is adding a row.
#ifndef RAMET_TESTS_SYSTEM_HOSTILE_PROGRAMS_H_
#define RAMET_TESTS_SYSTEM_HOSTILE_PROGRAMS_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace ramet::testing {

// How a command that misbehaves may end, as its embedder sees it.
enum class Ending : uint8_t {
  kExited,    // a result: the command's own exit, or a signal of the guest's kernel
  kTimedOut,  // a result: killed at its timeout
  kDied,      // the guest ended: reason guest_died, the sandbox is Gone
  kHung,      // the agent was not heard of any more: reason guest_hung, Poisoned
  kCut,       // its connection broke: an error without a reason, the sandbox goes on
};

struct HostileProgram {
  const char* name;
  const char* script;  // for sh -c
  std::vector<Ending> endings;
  int exit_code = 0;  // where it exits
  std::chrono::seconds timeout = std::chrono::seconds(20);
  std::string input = {};
  // What the process grows by at most beside the guest's own 128 MiB.
  int64_t memory_bytes = 48 << 20;
  // Afterwards a command is answered, where the sandbox goes on.
  bool answers_after = true;
};

const std::vector<HostileProgram>& hostile_programs();

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SYSTEM_HOSTILE_PROGRAMS_H_
