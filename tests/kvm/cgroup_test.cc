// Helper processes in control groups of their own: what bounds them, and that nothing stays.

#include "vmm/jail/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/core/host_facts.h"
#include "lib/helper/embedded.h"
#include "lib/helper/process.h"
#include "lib/instance/reasons.h"
#include "tests/kvm/helper_fixture.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/settle.h"
#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kSecond = 1'000'000'000;

std::string text_of(const fs::path& file) {
  std::ifstream in(file);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  text.erase(text.find_last_not_of('\n') + 1);
  return text;
}

Status write_to(const fs::path& file, const std::string& text) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, sys::open(file.string(), O_WRONLY));
  return sys::write_all(fd.get(), std::as_bytes(std::span(text)), file.string());
}

// Where cgroup2 is mounted with all controllers for a test to give on; none on a host whose
// controllers belong to version 1.
std::optional<fs::path> find_cgroup2() {
  std::ifstream mounts("/proc/self/mounts");
  std::string what;
  std::string where;
  std::string type;
  for (std::string rest; mounts >> what >> where >> type && std::getline(mounts, rest);) {
    if (type == "cgroup2" &&
        write_to(where + "/cgroup.subtree_control", "+cpu +memory +pids +io").ok()) {
      return where;
    }
  }
  return std::nullopt;
}

// A directory as a service manager delegates it.
class Delegated {
 public:
  explicit Delegated(const fs::path& root)
      : path_(root / ("test-of-" + std::to_string(::getpid()))) {
    fs::create_directory(path_);
  }
  ~Delegated() {
    std::error_code ignored;
    for (const std::string& name : groups()) {
      fs::remove(path_ / name, ignored);
    }
    fs::remove(path_, ignored);
  }
  Delegated(const Delegated&) = delete;
  Delegated& operator=(const Delegated&) = delete;

  const fs::path& path() const { return path_; }
  std::set<std::string> groups() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) {
      if (entry.is_directory()) {
        names.insert(entry.path().filename().string());
      }
    }
    return names;
  }

 private:
  const fs::path path_;
};

std::unique_ptr<jail::Cgroups> open_groups(const Delegated& delegated) {
  auto groups = jail::Cgroups::open(delegated.path().string());
  INFO(groups.status().ToString());
  REQUIRE(groups.ok());
  return *std::move(groups);
}

}  // namespace

#define RAMET_NEED_CGROUP2(name)                                                      \
  const auto name##_root = find_cgroup2();                                            \
  if (!name##_root) {                                                                 \
    RAMET_SKIP("this host gives cgroup2 no controllers; runs in the nested machine"); \
  }                                                                                   \
  const Delegated name(*name##_root)

TEST_CASE("a helper process lives in a group of its own with its bounds, which goes with it") {
  RAMET_NEED_KVM(kvm);
  RAMET_NEED_CGROUP2(delegated);
  {
    const auto engine =
        make_engine({.ready_helpers = 0, .helper_cgroup = delegated.path().string()});
    const TemplateData from = make_template(engine.get(), Program::kHello);
    const InstanceLimits limits = {.rates = {.cpu = {.per_second = kSecond / 2}}};
    const auto machine = fork_into_helper(engine.get(), from, limits);
    REQUIRE(machine->resume().ok());
    const auto groups = delegated.groups();
    REQUIRE(groups.size() == 1);
    const fs::path group = delegated.path() / *groups.begin();
    const auto helpers = helpers_of(::getpid());
    REQUIRE(helpers.size() == 1);
    CHECK(text_of(group / "cgroup.procs") == std::to_string(helpers[0]));
    const auto bounds = helper::bounds_of(limits, kGuestMemoryBytes, 1, 0);
    CHECK(text_of(group / "memory.max") == std::to_string(bounds.memory_bytes));
    CHECK(text_of(group / "memory.oom.group") == "1");
    CHECK(text_of(group / "cpu.max") == "62500 100000");
    CHECK(text_of(group / "pids.max") == std::to_string(helper::kHelperThreads));
    CHECK(std::stoull(text_of(group / "memory.current")) > 0);
    machine->stop();
    CHECK(wait_for([&] { return !delegated.groups().contains(*groups.begin()); }));
  }
  CHECK(delegated.groups().empty());
}

TEST_CASE("forks that end one after another leave no group behind") {
  RAMET_NEED_KVM(kvm);
  RAMET_NEED_CGROUP2(delegated);
  {
    const auto engine =
        make_engine({.ready_helpers = 2, .helper_cgroup = delegated.path().string()});
    const TemplateData from = make_template(engine.get(), Program::kHello);
    for (int i = 0; i < 8; ++i) {
      const auto machine = fork_into_helper(engine.get(), from);
      REQUIRE(machine->resume().ok());
    }
    // Those of the processes that stand ready.
    CHECK(wait_for([&] { return delegated.groups().size() <= 2; }));
  }
  CHECK(delegated.groups().empty());
}

TEST_CASE("a helper process with more memory than its group may have is killed, and says so") {
  RAMET_NEED_KVM(kvm);
  RAMET_NEED_CGROUP2(delegated);
  const auto engine = make_engine({.ready_helpers = 0});
  const auto groups = open_groups(delegated);
  auto group = groups->make(helper::kHelperThreads);
  REQUIRE(group.ok());
  const auto program = create_program_memfd("ramet-helper", helper::helper_program());
  REQUIRE(program.ok());
  const auto process = helper::HelperProcess::start(
      {.program = program->get(), .kvm = engine->kvm()->fd(), .cgroup = *std::move(group)});
  REQUIRE(process.ok());
  const uint64_t allowed = 64 << 10;  // less than it has by now
  (*process)->bound({.memory_bytes = allowed}, {}, {}).IgnoreError();
  const auto hit = limit_of((*process)->wait_end());
  REQUIRE(hit);
  CHECK(hit->which == LimitKind::kPrivateMemory);
  CHECK(hit->allowed == allowed);
}

TEST_CASE("groups that an ended process left are removed by the next; those of a living stay") {
  RAMET_NEED_CGROUP2(delegated);
  const auto living = open_groups(delegated);
  auto kept = living->make(4);
  REQUIRE(kept.ok());
  const auto before = delegated.groups();
  fs::create_directory(delegated.path() / "ramet-left");
  fs::create_directory(delegated.path() / "somebody-elses");
  const auto next = open_groups(delegated);
  auto after = before;
  after.insert("somebody-elses");
  CHECK(delegated.groups() == after);
}

TEST_CASE("a report on this host says whether a directory gives every controller") {
  RAMET_NEED_CGROUP2(outer);
  CHECK(inspect_host("/dev/kvm", outer.path()).controllers.value()->missing().empty());
  REQUIRE(write_to(outer.path() / "cgroup.subtree_control", "-io").ok());
  const fs::path inner = outer.path() / "inner";
  fs::create_directory(inner);
  const HostFacts facts = inspect_host("/dev/kvm", inner);
  CHECK(facts.controllers.value()->missing() == "io (it is not in cgroup.controllers)");
}

TEST_CASE("a directory without a controller is used without, or refused where all is required") {
  RAMET_NEED_KVM(kvm);
  RAMET_NEED_CGROUP2(outer);
  REQUIRE(write_to(outer.path() / "cgroup.subtree_control", "+memory").ok());
  const std::string inner = (outer.path() / "inner").string();
  fs::create_directory(inner);
  {
    const auto engine = make_engine({.ready_helpers = 0, .helper_cgroup = inner});
    const jail::ControllersGiven* given = engine->controllers();
    REQUIRE(given != nullptr);
    CHECK(given->has(jail::Controller::kMemory));
    CHECK(given->at(jail::Controller::kCpu) == "it is not in cgroup.controllers");
    const TemplateData from = make_template(engine.get(), Program::kHello);
    CHECK(fork_into_helper(engine.get(), from)->resume().ok());
  }
  const auto required = Engine::create({.confinement_required = true, .helper_cgroup = inner});
  CHECK(reason_of(required.status()) == reason::kConfinementRefused);
  CHECK(std::string(required.status().message()).find("cpu (it is not in") != std::string::npos);
}

TEST_CASE("a directory in which a process lives gives no controllers, and the kernel's word why") {
  RAMET_NEED_CGROUP2(delegated);
  REQUIRE(write_to(delegated.path() / "cgroup.procs", "0").ok());
  const auto groups = open_groups(delegated);
  const std::string why = groups->given().at(jail::Controller::kMemory);
  REQUIRE(write_to(delegated.path().parent_path() / "cgroup.procs", "0").ok());
  CHECK_THAT(why, Catch::Contains("busy", Catch::CaseSensitive::No));
}

TEST_CASE("transfers of the disks that files lie on are bounded; files in memory have none") {
  RAMET_NEED_CGROUP2(delegated);
  std::string number;
  for (const auto& disk : fs::directory_iterator("/sys/block")) {
    number = text_of(disk.path() / "dev");
  }
  if (number.empty()) {
    RAMET_SKIP("this host has no block device");
  }
  unsigned major_number = 0;
  unsigned minor_number = 0;
  REQUIRE(std::sscanf(number.c_str(), "%u:%u", &major_number, &minor_number) == 2);
  struct stat in_memory = {};
  const auto memory = create_memfd("ramet-test", 0);
  REQUIRE(sys::fstat(memory->get(), &in_memory).ok());
  const auto groups = open_groups(delegated);
  const auto group = groups->make(4);
  REQUIRE(group.ok());
  const Status limited =
      (*group)->limit({.io_bytes_per_second = kMiB,
                       .io_devices = {::makedev(major_number, minor_number), in_memory.st_dev}});
  INFO(limited.ToString());
  REQUIRE(limited.ok());
  const fs::path path = delegated.path() / *delegated.groups().begin();
  CHECK(text_of(path / "io.max") == number + " rbps=1048576 wbps=1048576 riops=max wiops=max");
}

TEST_CASE("a directory that is no control group is refused with what to name instead") {
  const auto engine = Engine::create({.helper_cgroup = "/tmp"});
  if (engine.status().code() == absl::StatusCode::kNotFound) {
    RAMET_SKIP("/dev/kvm does not open");
  }
  CHECK(engine.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(std::string(engine.status().message()).find("/sys/fs/cgroup") != std::string::npos);
}
