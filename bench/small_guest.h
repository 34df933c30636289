// A template of a guest of a few instructions that has every device of a real one and no agent:
// what a fork costs on any KVM, a software one included.
//
// Thread rule: one thread.
#ifndef RAMET_BENCH_SMALL_GUEST_H_
#define RAMET_BENCH_SMALL_GUEST_H_

#include <cstdint>
#include <memory>
#include <span>

#include "lib/core/engine.h"
#include "lib/core/template_data.h"
#include "lib/fork/fork.h"
#include "lib/instance/forked_machine.h"
#include "lib/instance/shell_pool.h"
#include "vmm/base/status.h"

namespace ramet::bench {

// One whose program, at 1 MiB in 64-bit mode, is given.
StatusOr<std::shared_ptr<const TemplateData>> make_program_template(
    Engine* engine, uint64_t memory_bytes, std::span<const uint8_t> program);
// Its first instructions write the reset port, which is the fork's first exit and ends it.
StatusOr<std::shared_ptr<const TemplateData>> make_small_template(Engine* engine,
                                                                  uint64_t memory_bytes);
// One that writes to so many pages instead, and sleeps.
StatusOr<std::shared_ptr<const TemplateData>> make_writer_template(Engine* engine,
                                                                   uint64_t memory_bytes,
                                                                   uint64_t pages);
// One that says a line on its serial console instead, which is its answer, and sleeps.
StatusOr<std::shared_ptr<const TemplateData>> make_answering_template(Engine* engine,
                                                                      uint64_t memory_bytes);
// A fork of that one, which has answered and sleeps.
StatusOr<std::unique_ptr<ForkedMachine>> fork_answering(Engine* engine, const TemplateData& from,
                                                        ForkSpec spec = {});
// Until it has, and sleeps.
Status wait_written(Instance& instance, uint64_t pages);

// Durations of one fork of it, in nanoseconds, from the call on, and from the kill on.
struct SmallFork {
  uint64_t shell_ready = 0;
  uint64_t first_exit = 0;
  uint64_t kill = 0;      // until the caller may go on
  uint64_t teardown = 0;  // until nothing is left
};
// `shell`: a machine of this template; null: one is made.
StatusOr<SmallFork> fork_small_once(Engine* engine, const TemplateData& from,
                                    const InstanceLimits& limits = {},
                                    std::unique_ptr<Machine> shell = nullptr);
// As an embedder does who wants the next one at once: forks it from a shell where one stands ready,
// waits for its end, gives it to the reaper.
Status fork_small_and_go_on(Engine* engine, const TemplateData& from, ShellPool* shells);
// The same in a helper process; `first_exit` is by the helper's clock, which is the same one, and
// `teardown` lasts until the process has ended. The pool is full before.
StatusOr<SmallFork> fork_small_in_helper(Engine* engine, const TemplateData& from);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_SMALL_GUEST_H_
