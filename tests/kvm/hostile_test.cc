// Hostile guests (tests/guests): the host lives, what was promised of each is kept, nothing is
// left.
#include <cstdio>
#include <random>

#include <catch2/catch.hpp>

#include "tests/guests/agent.h"
#include "tests/guests/runner.h"
#include "tests/kvm/need_kvm.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

size_t random_runs() { return long_run() ? 2000 : in_nested_machine() ? 20 : 100; }

void check_run(const HostileGuest& guest) {
  const Belongings before = belongings();
  Ran ran = run_guest(guest);
  for (std::string& left : left_behind(before)) {
    ran.broken.push_back(std::move(left));
  }
  std::string broken;
  for (const std::string& sentence : ran.broken) {
    broken += sentence + "; ";
  }
  std::printf("%-55s %.2f processors, %6lld KiB, kill %5lld us, %s\n", guest.name, ran.processors,
              static_cast<long long>(ran.grown_bytes / 1024),
              static_cast<long long>(ran.kill.count()), ran.end.c_str());
  INFO("a guest that " << guest.name);
  CHECK(broken == "");
}

}  // namespace

TEST_CASE("whatever one hostile guest does, its promise is kept and nothing of it is left") {
  RAMET_NEED_KVM(kvm);
  hostile_engine();
  CHECK(hostile_guests().size() > 80);
  for (const HostileGuest& guest : hostile_guests()) {
    check_run(guest);
  }
}

TEST_CASE("a guest that floods its other processor with INIT and SIPI keeps its promise") {
  RAMET_NEED_KVM(kvm);
  RAMET_NEED_HARDWARE("run real mode");
  hostile_engine();
  check_run(sipi_guest());
}

TEST_CASE("hostile guests in random order, again and again, leave nothing and grow nothing") {
  RAMET_NEED_KVM(kvm);
  hostile_engine();
  const uint32_t seed = std::random_device()();
  std::printf("random order of hostile guests: seed %u\n", seed);
  INFO("seed " << seed);
  std::mt19937 order(seed);
  HostileGuests guests = hostile_guests();
  const auto run_some = [&](size_t runs) {
    for (size_t i = 0; i < runs; ++i) {
      const HostileGuest& guest = guests[order() % guests.size()];
      const Ran ran = run_guest(guest);
      INFO("run " << i << ", a guest that " << guest.name);
      REQUIRE(ran.broken == std::vector<std::string>());
    }
  };
  const size_t runs = random_runs();
  run_some(runs / 10);  // what is made once and kept is made here
  const Belongings before = belongings();
  const int64_t resident = resident_bytes();
  run_some(runs);
  CHECK(left_behind(before) == std::vector<std::string>());
  CHECK((!memory_is_ours() || resident_bytes() - resident < 8 << 20));
}

TEST_CASE(
    "whatever an agent says or does not say, its sandbox says so by its deadline, and is gone") {
  RAMET_NEED_KVM(kvm);
  hostile_engine();
  for (const HostileAgent& agent : hostile_agents()) {
    const Belongings before = belongings();
    std::vector<std::string> broken = run_agent(agent);
    for (std::string& left : left_behind(before)) {
      broken.push_back(std::move(left));
    }
    INFO("an agent that " << agent.name);
    CHECK(broken == std::vector<std::string>());
  }
}
