// What confined threads really call: every row of the policies is needed, and no call is missing.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/api/fd_source.h"
#include "lib/core/sandbox_machine.h"
#include "lib/core/template_builder.h"
#include "lib/fork/fork.h"
#include "lib/fork/identity.h"
#include "lib/store/template_store.h"
#include "tests/support/helper/drill.h"
#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/system/sandbox/guest_template.h"
#include "vmm/base/clock.h"
#include "vmm/machine/policy_facts.h"

namespace {

using namespace ramet;
using namespace ramet::testing;

constexpr uint64_t kSecond = 1'000'000'000;

std::shared_ptr<Engine> recording_engine() {
  auto engine = Engine::create(
      {.log = [](LogLevel,
                 std::string_view line) { std::printf("%s\n", std::string(line).c_str()); },
       .scratch_directory = temp_root(),
       .confinement = jail::Mode::kRecord,
       .confinement_required = true,
       .helper_program = RAMET_HELPER_RECORD});
  RAMET_REQUIRE_OK(engine);
  return *std::move(engine);
}

// Limits that are looked at, and never reached.
InstanceLimits unreached() {
  return {
      .wall_ns = 3'600 * kSecond, .cpu_ns = 3'600 * kSecond, .private_bytes = uint64_t{1} << 30};
}

BuildSpec guest() {
  BuildSpec spec;
  spec.kernel_tree = kernel_dir("cloud-6.12");
  spec.rootfs = python_rootfs();
  spec.warmups = {{"python3", "-c", "import json"}};
  spec.memory_bytes = uint64_t{128} << 20;
  spec.vcpus = 2;
  spec.scratch_bytes = uint64_t{64} << 20;
  spec.boot_timeout_ns = 300 * kSecond;
  spec.warmup_timeout_ns = 300 * kSecond;
  return spec;
}

// Reads and writes of the disk, its discard, and a flush.
constexpr char kDiskWork[] = R"(
import fcntl, os, struct
with open('/big', 'wb') as f:
    f.write(os.urandom(4 << 20))
    f.flush()
    os.fsync(f.fileno())
os.remove('/big')
os.sync()
disk = os.open('/dev/vdb', os.O_RDWR)
BLKDISCARD, MIB = 0x1277, 1 << 20
os.pwrite(disk, b'x' * 65536, 63 * MIB)
os.fsync(disk)
fcntl.ioctl(disk, BLKDISCARD, struct.pack('QQ', 63 * MIB, MIB))
print(len(os.listdir('/usr/lib')) > 0)
)";

ExecOutcome run(SandboxMachine* box, std::vector<std::string> argv, StdinSource* input = nullptr) {
  ExecSpec spec;
  spec.argv = std::move(argv);
  spec.env = default_environment();
  spec.stdin_source = input;
  spec.timeout_ns = 300 * kSecond;
  auto outcome = box->exec(spec);
  RAMET_REQUIRE_OK(outcome);
  return *std::move(outcome);
}

void run_commands(Engine* engine, SandboxMachine* box) {
  const ExecOutcome disk = run(box, {"python3", "-c", kDiskWork});
  INFO(disk.stderr_data);
  CHECK(disk.stdout_data == "True\n");
  std::array<int, 2> pipe = {};
  REQUIRE(::pipe(pipe.data()) == 0);
  auto input = sandbox::FdSource::create(&engine->jail(), pipe[0]);
  RAMET_REQUIRE_OK(input);
  REQUIRE(::write(pipe[1], "line\n", 5) == 5);
  ::close(pipe[1]);
  CHECK(run(box, {"sh", "-c", "echo line > /dev/console"}).exit_code == 0);
  CHECK(run(box, {"cat"}, input->get()).stdout_data == "line\n");
  input->reset();
  ::close(pipe[0]);
}

std::string key(const jail::PolicyRow& row) {
  return std::string(row.syscall) + " " + std::string(row.what);
}

// Rows that all kinds have are needed when one of them needs them.
bool all_have(const std::string& wanted) {
  return std::ranges::all_of(jail::kThreadKinds, [&](jail::ThreadKind kind) {
    const jail::Policy policy = jail::policy_of(kind, machine_policy_facts());
    return std::ranges::any_of(policy, [&](const auto& row) { return key(row) == wanted; });
  });
}

// How often each row was used, of all threads that count together.
class Uses {
 public:
  void add(jail::ThreadKind kind, const jail::Policy& policy, const std::vector<uint64_t>& counts) {
    REQUIRE(counts.size() == policy.size());
    for (size_t i = 0; i < policy.size(); ++i) {
      std::printf("%-7s %9llu  %s\n", std::string(jail::name_of(kind)).c_str(),
                  static_cast<unsigned long long>(counts[i]), key(policy[i]).c_str());
      const std::string row = key(policy[i]);
      const std::string name = all_have(row) ? row : std::string(jail::name_of(kind)) + " " + row;
      uses_[name] += counts[i];
      expected_[name] = policy[i].seen == jail::Seen::kInLife && !jail::is_uncounted(policy[i]);
    }
  }
  void check_that_each_row_is_needed() {
    for (const auto& [row, wanted] : expected_) {
      if (wanted) {
        INFO("nobody needs the row: " << row);
        CHECK(uses_[row] > 0);
      }
    }
  }

 private:
  std::map<std::string, uint64_t> uses_;
  std::map<std::string, bool> expected_;
};

// Kinds of threads that there are in both processes have rows of their own in a helper.
jail::Policy helper_policy(jail::ThreadKind kind) {
  jail::PolicyFacts facts = machine_policy_facts();
  facts.in_helper = true;
  return jail::policy_of(kind, facts);
}

// What a helper of ramet-helper-record says of itself.
std::vector<uint64_t> counts_of(GuestPorts* helper, jail::ThreadKind kind) {
  const auto answer = helper->connect(kCountPort + static_cast<uint32_t>(kind));
  REQUIRE(absl::IsAborted(answer.status()));
  std::vector<uint64_t> counts;
  std::istringstream text{std::string(answer.status().message())};
  for (uint64_t count = 0; text >> count;) {
    counts.push_back(count);
  }
  return counts;
}

// The guest's own end, from inside: one vCPU thread stops the other.
void power_off(SandboxMachine* box) {
  ExecSpec poweroff;
  poweroff.argv = {"sh", "-c", "echo o > /proc/sysrq-trigger; sleep 60"};
  poweroff.timeout_ns = 300 * kSecond;
  CHECK_FALSE(box->exec(poweroff).ok());
}

void live(
    Engine* engine, SandboxMachine* box, bool powers_off,
    const std::function<void()>& before_end = [] {}) {
  run_commands(engine, box);
  RAMET_REQUIRE_OK(box->life().pause());
  RAMET_REQUIRE_OK(box->life().resume());
  before_end();
  if (powers_off) {
    power_off(box);
  }
  box->kill();
  RAMET_REQUIRE_OK(box->life().wait_gone(monotonic_ns() + 60 * kSecond));
}

void live_in_helper(const std::shared_ptr<Engine>& engine, const TemplateData& from,
                    bool powers_off, Uses* uses) {
  const auto reseed = make_reseed("recorded");
  RAMET_REQUIRE_OK(reseed);
  auto machine = fork_machine(
      engine.get(), from, reseed->generation,
      {.console = [](std::string_view) {}, .isolation = Isolation::kHelper, .limits = unreached()});
  RAMET_REQUIRE_OK(machine);
  const std::shared_ptr<GuestPorts> ports = (*machine)->ports();
  SandboxMachine box(engine, *std::move(machine), "recorded", {});
  RAMET_REQUIRE_OK(box.start(*reseed, monotonic_ns() + 300 * kSecond));
  live(engine.get(), &box, powers_off, [&] {
    for (const jail::ThreadKind kind : {jail::ThreadKind::kVcpu, jail::ThreadKind::kWorker,
                                        jail::ThreadKind::kWatch, jail::ThreadKind::kHelper}) {
      uses->add(kind, helper_policy(kind), counts_of(ports.get(), kind));
    }
  });
}

}  // namespace

TEST_CASE("a template's and a sandbox's whole life needs every row of the policies, and no other") {
  RAMET_NEED_GUEST();
  const auto engine = recording_engine();
  const auto built = build_template(engine.get(), guest());
  RAMET_REQUIRE_OK(built);
  const TempDir directory;
  RAMET_REQUIRE_OK(save_template(**built, directory.path() + "/t"));
  const auto loaded =
      load_template({.directory = directory.path() + "/t", .scratch_directory = temp_root()});
  RAMET_REQUIRE_OK(loaded);
  Uses uses;
  for (const bool powers_off : {false, true}) {
    auto box =
        fork_sandbox(engine, **loaded,
                     {.ready_deadline_ns = monotonic_ns() + 300 * kSecond, .limits = unreached()});
    RAMET_REQUIRE_OK(box);
    live(engine.get(), box->get(), powers_off);
    live_in_helper(engine, **loaded, powers_off, &uses);
  }
  RAMET_REQUIRE_OK(engine->drain(monotonic_ns() + 60 * kSecond));
  CHECK(engine->jail().refused() == 0);
  for (const jail::ThreadKind kind : jail::kThreadKinds) {
    uses.add(kind, engine->jail().policy(kind), engine->jail().row_uses(kind));
  }
  uses.check_that_each_row_is_needed();
}
