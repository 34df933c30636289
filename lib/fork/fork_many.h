// fork_sandboxes: many forks of a template at once.
//
// Thread rule: from any thread that is none of the engine's, any number at once: all share the
// engine's threads for it, in the order of the calls.
// Invariant: an answer for each; with all_or_nothing none lives when one of them failed.
#ifndef RAMET_LIB_FORK_FORK_MANY_H_
#define RAMET_LIB_FORK_FORK_MANY_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "lib/fork/fork.h"

namespace ramet {

struct ManyForks {
  size_t count = 0;
  bool all_or_nothing = false;
};

// ForkSpec::hostname, where it is given, is the beginning of each name: "NAME-1" is the first.
std::vector<StatusOr<std::unique_ptr<SandboxMachine>>> fork_sandboxes(
    const std::shared_ptr<Engine>& engine, const TemplateData& from, const ForkSpec& spec,
    const ManyForks& many);

}  // namespace ramet

#endif  // RAMET_LIB_FORK_FORK_MANY_H_
