// train: forks a template to find out which pages its forks touch first.
//
// Thread rule: from any thread that is none of the engine's.
// Invariant: what it says was touched by two forks alike: what one of them touched alone follows
// from its randomness and not from the template. Nothing of them is left.
#ifndef RAMET_LIB_FORK_TRAIN_H_
#define RAMET_LIB_FORK_TRAIN_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lib/core/engine.h"
#include "lib/core/template_data.h"
#include "vmm/base/status.h"

namespace ramet {

struct TrainSpec {
  std::vector<std::vector<std::string>> commands;  // run in each; their results do not matter
  uint64_t ready_timeout_ns = 0;
  uint64_t command_timeout_ns = 0;  // of each
};

// Two forks find what is touched, and two for which that was made ready what is written besides by
// forks that do not wait for it: a guest that is quick takes new memory before RCU has given back
// the old. Where the kernel cannot tell what was read (FaultAroundOff), only what was written.
StatusOr<WorkingSet> train(const std::shared_ptr<Engine>& engine, const TemplateData& from,
                           const TrainSpec& spec);

}  // namespace ramet

#endif  // RAMET_LIB_FORK_TRAIN_H_
