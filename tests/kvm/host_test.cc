// What the host refuses: every failing call is a Status, and nothing of a machine is left behind.
#include <dirent.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/kvm/need_kvm.h"
#include "tests/support/guest_code.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

size_t entries_of(const char* folder) {
  size_t count = 0;
  DIR* directory = ::opendir(folder);
  REQUIRE(directory != nullptr);
  while (::readdir(directory) != nullptr) {
    ++count;
  }
  ::closedir(directory);
  return count;
}

// What a machine could leave behind, but for what the C library keeps of freed memory and stacks.
struct Left {
  size_t fds = 0;
  size_t tasks = 0;
  size_t guest_maps = 0;
  size_t maps = 0;

  static Left now() {
    Left left{.fds = entries_of("/proc/self/fd"), .tasks = entries_of("/proc/self/task")};
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      ++left.maps;
      left.guest_maps +=
          line.find("memfd:") != std::string::npos || line.find("kvm") != std::string::npos ? 1 : 0;
    }
    return left;
  }
};

// Threads leave /proc/self/task a moment after their join.
Left settled(const Left& wanted) {
  Left left = Left::now();
  for (int i = 0; i < 200 && left.tasks > wanted.tasks; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    left = Left::now();
  }
  return left;
}

void check_nothing_left(const Left& before) {
  const Left after = settled(before);
  CHECK(after.fds == before.fds);
  CHECK(after.tasks == before.tasks);
  CHECK(after.guest_maps == before.guest_maps);
#if !defined(RAMET_SANITIZED)             // which have mappings of their own
  CHECK(after.maps <= before.maps + 16);  // the C library's own arenas and cached stacks
#endif
}

struct Template {
  MachineState state;
  std::shared_ptr<const MemoryImage> image;
};

Template make_template(const std::shared_ptr<const Kvm>& kvm) {
  auto box = make_box(kvm, Program::kHello, {.vcpus = 2});
  REQUIRE(box.ok());
  auto state = box->machine->save();
  REQUIRE(state.ok());
  auto image = freeze_box(std::move(*box));
  REQUIRE(image.ok());
  return {std::move(*state), std::move(*image)};
}

// Fails the n-th call of a kind for every n until `operation` no longer makes so many. What does
// not fail must be one of `forgiven` calls, whose failure is allowed to be without effect.
uint64_t fail_each(sys::Call call, int error, uint64_t forgiven,
                   const std::function<Status()>& operation) {
  const Left before = Left::now();
  uint64_t n = 1;
  uint64_t survived = 0;
  for (;; ++n) {
    sys::FaultPlan plan(call, n, error);
    plan.arm();
    const Status status = operation();
    plan.disarm();
    if (!plan.fired()) {
      INFO(status.ToString());
      CHECK(status.ok());
      break;
    }
    survived += status.ok() ? 1 : 0;
    if (!status.ok()) {
      CHECK(!status.message().empty());
    }
    REQUIRE(n < 1000);
  }
  CHECK(survived <= forgiven);
  check_nothing_left(before);
  return n - 1;
}

}  // namespace

TEST_CASE("200 machines made, run and destroyed leave no descriptor, thread or mapping") {
  RAMET_NEED_KVM(kvm);
  const Template base = make_template(kvm);
  { REQUIRE(fork_box(kvm, *base.image, base.state).ok()); }
  const Left before = Left::now();
  for (int i = 0; i < 200; ++i) {
    auto box = i % 2 == 0 ? make_box(kvm, Program::kHello, {.vcpus = 2})
                          : fork_box(kvm, *base.image, base.state);
    REQUIRE(box.ok());
    box->ports->count_only();
    REQUIRE(box->machine->resume().ok());
    REQUIRE(box->ports->wait_writes(0, 1));
    if (i % 3 == 0) {
      REQUIRE(box->machine->pause().ok());
    }
  }
  check_nothing_left(before);
}

TEST_CASE("a live fork has a descriptor, two and a thread for each vCPU, and few mappings") {
  RAMET_NEED_KVM(kvm);
  const Template base = make_template(kvm);
  { REQUIRE(fork_box(kvm, *base.image, base.state).ok()); }
  const Left before = Left::now();
  const auto fork = fork_box(kvm, *base.image, base.state);
  REQUIRE(fork.ok());
  const Left now = Left::now();
  CHECK(now.fds - before.fds <= 5);  // the VM; two vCPUs and the listeners of their threads
  CHECK(now.tasks - before.tasks == 2);
  CHECK(now.maps - before.maps <= 8);
  CHECK(now.guest_maps - before.guest_maps <= 4);
}

TEST_CASE("every ioctl, mapping and thread of Machine::create may fail: a Status, and no leak") {
  RAMET_NEED_KVM(kvm);
  const auto create = [&] {
    const auto box = make_box(kvm, Program::kHello, {.vcpus = 2});
    return box.status();
  };
  // KVM_CAP_HALT_POLL may be missing.
  const uint64_t ioctls = fail_each(sys::Call::kIoctl, EIO, 1, create);
  CHECK(ioctls > 15);
  CHECK(fail_each(sys::Call::kMmap, ENOMEM, 0, create) == 3);
  CHECK(fail_each(sys::Call::kMadvise, ENOMEM, 0, create) == 6);
  CHECK(fail_each(sys::Call::kThreadCreate, EAGAIN, 0, create) == 2);
  CHECK(fail_each(sys::Call::kSeccomp, ENOMEM, 0, create) == 4);  // no_new_privs, then the filter
  CHECK(fail_each(sys::Call::kMemfdCreate, EMFILE, 0, create) == 1);
  CHECK(fail_each(sys::Call::kFtruncate, ENOSPC, 0, create) == 1);
  std::printf("Machine::create of 2 vCPUs: %llu ioctls, each failed once\n",
              static_cast<unsigned long long>(ioctls));
}

TEST_CASE("every ioctl, mapping and thread of Machine::restore may fail: a Status, and no leak") {
  RAMET_NEED_KVM(kvm);
  const Template base = make_template(kvm);
  const auto restore = [&] { return fork_box(kvm, *base.image, base.state).status(); };
  // KVM_CAP_HALT_POLL, and KVM_KVMCLOCK_CTRL of each vCPU.
  const uint64_t ioctls = fail_each(sys::Call::kIoctl, EIO, 3, restore);
  CHECK(ioctls > 30);
  CHECK(fail_each(sys::Call::kMmap, ENOMEM, 0, restore) == 3);
  CHECK(fail_each(sys::Call::kThreadCreate, EAGAIN, 0, restore) == 2);
  std::printf("Machine::restore of 2 vCPUs: %llu ioctls, each failed once\n",
              static_cast<unsigned long long>(ioctls));
}

TEST_CASE("every ioctl of a save may fail: a Status, and the machine goes on") {
  RAMET_NEED_KVM(kvm);
  auto box = make_box(kvm, Program::kHello);
  REQUIRE(box.ok());
  box->ports->count_only();
  CHECK(fail_each(sys::Call::kIoctl, EIO, 0, [&] { return box->machine->save().status(); }) > 10);
  REQUIRE(box->machine->resume().ok());
  CHECK(box->ports->wait_writes(0, 1));
}

TEST_CASE("every ioctl of opening KVM may fail: a Status, or a KVM that is right all the same") {
  RAMET_NEED_KVM(kvm);
  fail_each(sys::Call::kIoctl, EIO, 8, [&]() -> Status {
    const auto opened = Kvm::open();
    if (opened.ok()) {
      CHECK((*opened)->xsave_bytes() == kvm->xsave_bytes());
      CHECK((*opened)->msr_indices() == kvm->msr_indices());
      CHECK((*opened)->supported_cpuid() == kvm->supported_cpuid());
    }
    return opened.status();
  });
}

TEST_CASE(
    "without /dev/kvm, without access to it, and with another file in its place, the message says "
    "so") {
  const auto absent = Kvm::open("/nonexistent/kvm");
  CHECK(absent.status().code() == absl::StatusCode::kNotFound);
  CHECK(std::string(absent.status().message()).find("/nonexistent/kvm is not there") !=
        std::string::npos);
  {
    sys::FaultPlan plan(sys::Call::kOpen, 1, EACCES);
    plan.arm();
    const auto denied = Kvm::open();
    CHECK(denied.status().code() == absl::StatusCode::kPermissionDenied);
    CHECK(std::string(denied.status().message()).find("add this user to its group") !=
          std::string::npos);
  }
  {
    sys::FaultPlan plan(sys::Call::kOpen, 1, EMFILE);
    plan.arm();
    CHECK(Kvm::open().status().code() == absl::StatusCode::kResourceExhausted);
  }
  const auto other = Kvm::open("/dev/null");
  CHECK(other.status().code() == absl::StatusCode::kUnimplemented);
  CHECK(std::string(other.status().message()).find("/dev/null is not a KVM") != std::string::npos);
}

TEST_CASE("every required capability that is missing is named, all in one message") {
  RAMET_NEED_KVM(kvm);
  // The first ioctl is the API version; every later one fails.
  sys::FaultPlan plan(sys::Call::kIoctl, 2, EINVAL, true);
  plan.arm();
  const auto opened = Kvm::open();
  plan.disarm();
  CHECK(opened.status().code() == absl::StatusCode::kUnimplemented);
  for (const char* name :
       {"KVM_CAP_SPLIT_IRQCHIP", "KVM_CAP_XSAVE2", "KVM_CAP_SREGS2", "KVM_CAP_IMMEDIATE_EXIT"}) {
    CHECK(std::string(opened.status().message()).find(name) != std::string::npos);
  }
}
