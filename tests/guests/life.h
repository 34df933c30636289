// A hand-made guest whose agent and driver behave, and the whole life of a sandbox of it: made,
// run, saved to a directory, loaded, forked, a command, branched, a command in the fork of the
// branch and one in itself, reset, a command, killed.
//
// Thread rule: one thread; no Catch2 macro is used.
// Invariant: whatever fails on the way, live() returns, and leaves nothing but what settles.
#ifndef RAMET_TESTS_GUESTS_LIFE_H_
#define RAMET_TESTS_GUESTS_LIFE_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "lib/core/sandbox_machine.h"
#include "lib/core/template_data.h"
#include "lib/fork/fork.h"
#include "vmm/base/status.h"

namespace ramet::testing {

class AgentScript;

struct Lived {
  Status status;       // of the first step that failed; OK: all of it went well
  std::string broken;  // what no failure excuses; empty: nothing
};

// What it is a template of. The guest is reseeded, takes commands, writes a block to its disk after
// each, and takes no more than `commands` of them. One of this host name never answers.
inline constexpr std::string_view kHungHostname = "hung";
StatusOr<std::shared_ptr<const TemplateData>> make_obedient_template(
    const std::shared_ptr<Engine>& engine, int commands);
// The same of a guest that serves for ever (AgentScript::serve), and may be branched; each command
// writes its number to its disk, and to one of 64 pages, too. Further processors count rounds.
StatusOr<std::shared_ptr<const TemplateData>> make_serving_template(
    const std::shared_ptr<Engine>& engine, uint32_t vcpus = 1);
// Of a guest that takes its reseed well, and then does what is written.
StatusOr<std::shared_ptr<const TemplateData>> make_agent_template(
    const std::shared_ptr<Engine>& engine, const std::function<void(AgentScript&)>& write);
// The pages: the n-th command writes to page n % 64, of which the first lies here.
inline constexpr uint64_t kServingPages = 0x31'0000;
// A command in a serving guest: how many it has had.
StatusOr<int> served(SandboxMachine* box);
// A sandbox of it, and a command in one.
StatusOr<std::unique_ptr<SandboxMachine>> fork_obedient(const std::shared_ptr<Engine>& engine,
                                                        const TemplateData& from,
                                                        ForkSpec spec = {});
Status command(SandboxMachine* box);
// How long each of these may take.
uint64_t obedience_ns();

// With an engine of its own. `folder` is there and empty, and is left so where the save failed; the
// template lies in it otherwise.
enum class LivesIn : uint8_t { kThisProcess, kHelper, kWorker };
Lived live(const std::string& folder, LivesIn where = LivesIn::kThisProcess);

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_LIFE_H_
