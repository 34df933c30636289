// Many forks that live at once: each keeps what is its own, and costs the process little.
#include <dirent.h>
#include <sys/utsname.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "bench/small_guest.h"
#include "lib/fork/fork.h"
#include "tests/kvm/need_kvm.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kMemory = uint64_t{32} << 20;
constexpr uint64_t kPatience = 10'000'000'000;
constexpr GuestAddr kNear = {0x20'0000};
constexpr GuestAddr kFar = {0x1ff'f000};

// mov rbx, [kVmGenIdGuidAddress]; mov [kNear], rbx; mov [kFar], rbx; then HLT for ever. The
// generation id is what each fork has of its own before its first instruction.
constexpr std::array<uint8_t, 27> kCopyGeneration = {
    0x48, 0x8b, 0x1c, 0x25, 0x28, 0x00, 0x0f, 0x00,  // [0xf'0028]
    0x48, 0x89, 0x1c, 0x25, 0x00, 0x00, 0x20, 0x00,  // [0x20'0000]
    0x48, 0x89, 0x1c, 0x25, 0x00, 0xf0, 0xff, 0x01,  // [0x1ff'f000]
    0xf4, 0xeb, 0xfd};

struct Value {
  uint64_t near = 0;
  uint64_t far = 0;
};

Value value_of(Instance& instance) {
  const GuestMemory& memory = instance.machine().memory();
  return {memory.read_object<uint64_t>(kNear).value_or(0),
          memory.read_object<uint64_t>(kFar).value_or(0)};
}

Value wait_value(Instance& instance) {
  const uint64_t deadline = monotonic_ns() + kPatience;
  Value value = value_of(instance);
  while ((value.near == 0 || value.far == 0) && monotonic_ns() < deadline) {
    value = value_of(instance);
  }
  return value;
}

// MADV_GUARD_INSTALL, Linux 6.13.
bool has_guards() {
  utsname names = {};
  ::uname(&names);
  int major = 0;
  int minor = 0;
  return std::sscanf(names.release, "%d.%d", &major, &minor) == 2 &&
         (major > 6 || (major == 6 && minor >= 13));
}

struct Forked {
  uint64_t value = 0;  // that it was given
  std::unique_ptr<Instance> instance;
};

Forked fork_one(Engine* engine, const TemplateData& from) {
  const auto generation = new_generation_id();
  REQUIRE(generation.ok());
  Forked forked;
  std::memcpy(&forked.value, generation->data(), sizeof forked.value);
  auto instance = restore_instance(engine, from, *generation, {});
  INFO(instance.status().ToString());
  REQUIRE(instance.ok());
  forked.instance = *std::move(instance);
  REQUIRE(forked.instance->resume().ok());
  return forked;
}

size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  size_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    ++count;
  }
  return count;
}

size_t descriptors() {
  size_t count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  REQUIRE(directory != nullptr);
  while (::readdir(directory) != nullptr) {
    ++count;
  }
  ::closedir(directory);
  return count;
}

}  // namespace

TEST_CASE("1,000 forks in batches of 50: each has written its own value, and has it still") {
  RAMET_NEED_KVM(kvm);
  constexpr int kForks = 1000;
  constexpr int kBatch = 50;
  const auto engine = Engine::create({.ready_shells = 0});
  REQUIRE(engine.ok());
  const auto from = bench::make_program_template(engine->get(), kMemory, kCopyGeneration);
  INFO(from.status().ToString());
  REQUIRE(from.ok());
  std::set<uint64_t> values;
  for (int done = 0; done < kForks; done += kBatch) {
    std::vector<Forked> batch;
    for (int i = 0; i < kBatch; ++i) {
      batch.push_back(fork_one(engine->get(), **from));
    }
    for (const Forked& forked : batch) {
      wait_value(*forked.instance);
    }
    // Now that all of them have written.
    for (const Forked& forked : batch) {
      const Value value = value_of(*forked.instance);
      CHECK(value.near == forked.value);
      CHECK(value.far == forked.value);
      values.insert(forked.value);
    }
  }
  CHECK(values.size() == kForks);
}

TEST_CASE("of 100 live forks each has 3 descriptors and at most 3 mappings, stacks included") {
  // Before MADV_GUARD_INSTALL a stack's guard is a mapping.
  const size_t most_mappings = has_guards() ? 3 : 4;
  RAMET_NEED_KVM(kvm);
#if defined(RAMET_SANITIZED)
  RAMET_SKIP("a sanitizer has mappings of its own");
#endif
  constexpr size_t kForks = 100;
  const auto engine = Engine::create({.spare_threads = 0, .ready_shells = 0});
  REQUIRE(engine.ok());
  const auto from = bench::make_program_template(engine->get(), kMemory, kCopyGeneration);
  REQUIRE(from.ok());
  std::vector<Forked> forks;
  // What there is once in a process comes with the first.
  forks.push_back(fork_one(engine->get(), **from));
  const size_t mappings_before = mappings();
  const size_t descriptors_before = descriptors();
  for (size_t i = 0; i < kForks; ++i) {
    forks.push_back(fork_one(engine->get(), **from));
  }
  CHECK(descriptors() - descriptors_before == 3 * kForks);
  CHECK(mappings() - mappings_before <= most_mappings * kForks);
}
