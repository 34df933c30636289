// What tests of helper processes begin with: an engine, a template of a hand-made guest, a fork.
//
// Thread rule: the test's own thread: they REQUIRE.
#ifndef RAMET_TESTS_KVM_HELPER_FIXTURE_H_
#define RAMET_TESTS_KVM_HELPER_FIXTURE_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/core/engine.h"
#include "lib/fork/fork.h"
#include "tests/support/guest_code.h"

namespace ramet::testing {

inline std::shared_ptr<Engine> make_engine(EngineConfig config = {}) {
  auto engine = Engine::create(std::move(config));
  if (!engine.ok()) {
    throw std::runtime_error(engine.status().ToString());
  }
  return *std::move(engine);
}

// What a template of a small guest is, without ever having run.
inline TemplateData make_template(Engine* engine, Program program) {
  auto memfd = create_memfd("ramet-test", kGuestMemoryBytes);
  REQUIRE(memfd.ok());
  TemplateData data;
  {
    auto memory = GuestMemory::create(memfd->get(), small_regions(), MapMode::kShared);
    REQUIRE(memory.ok());
    REQUIRE(load_program(**memory, program).ok());
    auto instance = Instance::create(engine->instance_host(), *std::move(memory), 1, {});
    REQUIRE(instance.ok());
    REQUIRE((*instance)->machine().set_entry(program_entry()).ok());
    auto state = (*instance)->save();
    REQUIRE(state.ok());
    data.state = *std::move(state);
  }
  auto image = MemoryImage::freeze(*std::move(memfd), kGuestMemoryBytes);
  REQUIRE(image.ok());
  data.memory = *std::move(image);
  return data;
}

inline std::unique_ptr<ForkedMachine> fork_into_helper(Engine* engine, const TemplateData& from,
                                                       const InstanceLimits& limits = {}) {
  auto machine =
      fork_machine(engine, from, {}, {.isolation = Isolation::kHelper, .limits = limits});
  INFO(machine.status().ToString());
  REQUIRE(machine.ok());
  return *std::move(machine);
}

// Processes that run the helper program and were made by `parent`.
inline std::vector<int> helpers_of(int parent) {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "stat");
    std::string pid;
    std::string name;
    std::string state;
    int made_by = 0;
    if (file >> pid >> name >> state >> made_by && made_by == parent &&
        name.find("memfd:ramet") != std::string::npos) {
      found.push_back(std::stoi(pid));
    }
  }
  return found;
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_KVM_HELPER_FIXTURE_H_
