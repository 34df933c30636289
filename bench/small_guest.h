// A template of a guest of a few instructions that has every device of a real one and no agent:
// what a fork costs on any KVM, a software one included.
//
// Thread rule: one thread.
#ifndef RAMET_BENCH_SMALL_GUEST_H_
#define RAMET_BENCH_SMALL_GUEST_H_

#include <cstdint>
#include <memory>

#include "lib/core/engine.h"
#include "lib/core/template_data.h"
#include "vmm/base/status.h"

namespace ramet::bench {

// Its first instructions write the reset port, which is the fork's first exit and ends it.
StatusOr<std::shared_ptr<const TemplateData>> make_small_template(Engine* engine,
                                                                  uint64_t memory_bytes);

// CLOCK_MONOTONIC moments of one fork of it, in nanoseconds; `teardown` is a duration.
struct SmallFork {
  uint64_t shell_ready = 0;
  uint64_t first_exit = 0;
  uint64_t teardown = 0;
};
StatusOr<SmallFork> fork_small_once(Engine* engine, const TemplateData& from,
                                    const InstanceLimits& limits = {});
// The same in a helper process; `first_exit` is by the helper's clock, which is the same one, and
// `teardown` lasts until the process has ended. The pool is full before.
StatusOr<SmallFork> fork_small_in_helper(Engine* engine, const TemplateData& from);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_SMALL_GUEST_H_
