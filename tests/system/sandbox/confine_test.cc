// What confined threads really call: every row of the policies is needed, and no call is missing.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <future>
#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/api/fd_source.h"
#include "lib/core/template_builder.h"
#include "lib/fork/fork.h"
#include "lib/store/template_store.h"
#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/system/sandbox/guest_template.h"
#include "vmm/base/clock.h"

namespace {

using namespace ramet;
using namespace ramet::testing;

constexpr uint64_t kSecond = 1'000'000'000;

std::shared_ptr<Engine> recording_engine() {
  auto engine = Engine::create({.scratch_directory = temp_root(),
                                .confinement = jail::Mode::kRecord,
                                .confinement_required = true});
  RAMET_REQUIRE_OK(engine);
  return *std::move(engine);
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
  CHECK(run(box, {"cat"}, input->get()).stdout_data == "line\n");
  input->reset();
  ::close(pipe[0]);
}

// A row by its call and its condition, without the thread: rows that all kinds have are needed when
// one of them needs them.
std::string key(const jail::PolicyRow& row) {
  return std::string(row.syscall) + " " + std::string(row.what);
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
  for (int i = 0; i < 3; ++i) {
    // With limits that are looked at, and never reached.
    auto box = fork_sandbox(engine, **loaded,
                            {.ready_deadline_ns = monotonic_ns() + 300 * kSecond,
                             .limits = {.wall_ns = 3'600 * kSecond,
                                        .cpu_ns = 3'600 * kSecond,
                                        .private_bytes = uint64_t{1} << 30}});
    RAMET_REQUIRE_OK(box);
    run_commands(engine.get(), box->get());
    RAMET_REQUIRE_OK((*box)->life().pause());
    RAMET_REQUIRE_OK((*box)->life().resume());
    if (i == 2) {
      // The guest's own end, from inside: one vCPU thread stops the other.
      ExecSpec poweroff;
      poweroff.argv = {"sh", "-c", "echo o > /proc/sysrq-trigger; sleep 60"};
      poweroff.timeout_ns = 300 * kSecond;
      CHECK_FALSE((*box)->exec(poweroff).ok());
    }
    (*box)->kill();
    RAMET_REQUIRE_OK((*box)->life().wait_gone(monotonic_ns() + 60 * kSecond));
  }
  RAMET_REQUIRE_OK(engine->drain(monotonic_ns() + 60 * kSecond));
  CHECK(engine->jail().refused() == 0);

  std::map<std::string, uint64_t> uses;
  std::map<std::string, bool> expected;
  for (const jail::ThreadKind kind : jail::kThreadKinds) {
    const jail::Policy& policy = engine->jail().policy(kind);
    const auto counts = engine->jail().row_uses(kind);
    for (size_t i = 0; i < policy.size(); ++i) {
      std::printf("%-7s %9llu  %s\n", std::string(jail::name_of(kind)).c_str(),
                  static_cast<unsigned long long>(counts[i]), key(policy[i]).c_str());
      uses[key(policy[i])] += counts[i];
      // Recording itself lets futex through: a thread waits with it for its listener.
      expected[key(policy[i])] =
          policy[i].seen == jail::Seen::kInLife && policy[i].syscall != "futex";
    }
  }
  for (const auto& [row, wanted] : expected) {
    if (wanted) {
      INFO("nobody needs the row: " << row);
      CHECK(uses[row] > 0);
    }
  }
}
