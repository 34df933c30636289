// The whole life of a sandbox with a hand-made guest whose agent and driver behave: made, run,
// saved to a directory, loaded, forked, a command, killed.
//
// Thread rule: one thread; no Catch2 macro is used.
// Invariant: whatever fails on the way, live() returns, and leaves nothing but what settles.
#ifndef RAMET_TESTS_GUESTS_LIFE_H_
#define RAMET_TESTS_GUESTS_LIFE_H_

#include <string>

#include "lib/fork/fork.h"
#include "vmm/base/status.h"

namespace ramet::testing {

struct Lived {
  Status status;       // of the first step that failed; OK: all of it went well
  std::string broken;  // what no failure excuses; empty: nothing
};

// With an engine of its own. `folder` is there and empty, and is left so where the save failed; the
// template lies in it otherwise.
Lived live(const std::string& folder, Isolation isolation = Isolation::kInProcess);

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_LIFE_H_
