// A guest that is held while it is saved: nothing but the agent runs, and what runs again on which
// side.
#include <chrono>
#include <fstream>
#include <future>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/settle.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/lib_agent/guest_under_test.h"

using ramet::AgentClient;
using ramet::test::GroupParent;
using ramet::test::GuestUnderTest;
using ramet::test::in_seconds;
using ramet::testing::wait_for;

namespace {

constexpr auto kMoment = std::chrono::milliseconds(200);

// Adds a line to the file every 10 ms, for as long as it lives.
std::string counter(const std::string& file) {
  return "while :; do echo x >> " + file + "; sleep 0.01; done";
}

long lines_of(const std::string& file) {
  std::ifstream in(file);
  long lines = 0;
  for (std::string line; std::getline(in, line);) {
    ++lines;
  }
  return lines;
}

bool stands_still(const std::string& file) {
  const long before = lines_of(file);
  std::this_thread::sleep_for(kMoment);
  return lines_of(file) == before;
}

bool goes_on(const std::string& file) {
  const long before = lines_of(file);
  return wait_for([&] { return lines_of(file) > before; });
}

}  // namespace

#define RAMET_NEED_GROUPS(parent)                    \
  const GroupParent parent;                          \
  if (parent.path().empty()) {                       \
    RAMET_SKIP("no cgroup2 that this user may use"); \
  }

TEST_CASE("commands and what they left behind stand still while they are held, and go on") {
  RAMET_NEED_GROUPS(parent);
  const ramet::testing::TempDir folder;
  const std::string left = folder.path() + "/left";
  const std::string running = folder.path() + "/running";
  const GuestUnderTest guest("/etc", parent.path());
  REQUIRE(guest.shell("(" + counter(left) + ") >/dev/null 2>&1 </dev/null &").ok());
  auto command = std::async(std::launch::async, [&] { (void)guest.shell(counter(running)); });
  REQUIRE(wait_for([&] { return lines_of(left) > 0 && lines_of(running) > 0; }));
  AgentClient client = guest.client();
  const auto held = client.suspend(in_seconds(10));
  REQUIRE(held.ok());
  CHECK(held->live_count == 0);
  CHECK(stands_still(left));
  CHECK(stands_still(running));
  // One that is asked for meanwhile waits.
  auto late = std::async(std::launch::async, [&] { return guest.shell("echo late"); });
  CHECK(late.wait_for(kMoment) == std::future_status::timeout);
  CHECK(client.thaw(in_seconds(10)).ok());
  CHECK(goes_on(left));
  CHECK(goes_on(running));
  const auto outcome = late.get();
  REQUIRE(outcome.ok());
  CHECK(outcome->stdout_data == "late\n");
  parent.kill();
  command.get();
}

TEST_CASE("a reseed of a held guest ends its commands, and what they left behind goes on") {
  RAMET_NEED_GROUPS(parent);
  const ramet::testing::TempDir folder;
  const std::string left = folder.path() + "/left";
  const std::string running = folder.path() + "/running";
  const GuestUnderTest guest("/etc", parent.path());
  REQUIRE(guest.shell("(" + counter(left) + ") >/dev/null 2>&1 </dev/null &").ok());
  auto command = std::async(std::launch::async, [&] { return guest.shell(counter(running)); });
  REQUIRE(wait_for([&] { return lines_of(left) > 0 && lines_of(running) > 0; }));
  REQUIRE(guest.client().suspend(in_seconds(10))->live_count == 0);
  const long before = lines_of(running);
  const auto reseed = ramet::make_reseed("fork-1");
  REQUIRE(reseed.ok());
  CHECK(guest.client().reseed(*reseed, in_seconds(10)).ok());
  CHECK(command.get().status().code() == absl::StatusCode::kUnavailable);
  CHECK(goes_on(left));
  CHECK(lines_of(running) == before);
  CHECK(stands_still(running));
  CHECK(guest.shell("echo on").ok());
  parent.kill();
}

TEST_CASE("a process that left its group is named, and the others go on") {
  RAMET_NEED_GROUPS(parent);
  const ramet::testing::TempDir folder;
  const std::string left = folder.path() + "/left";
  const GuestUnderTest guest("/etc", parent.path());
  REQUIRE(guest.shell("(" + counter(left) + ") >/dev/null 2>&1 </dev/null &").ok());
  const std::string above = parent.path().substr(0, parent.path().rfind('/'));
  auto command = std::async(std::launch::async, [&] {
    return guest.shell("echo $$ > " + above + "/cgroup.procs; exec sleep 2");
  });
  // "sleep": it has left by then.
  const std::string self = std::to_string(guest.pid());
  CHECK(wait_for([&] {
    const auto pids =
        ramet::guest::read_file("/proc/" + self + "/task/" + self + "/children").value_or("");
    for (std::string_view rest = pids; !rest.empty();) {
      const std::string pid(ramet::guest::cut(rest, ' '));
      if (ramet::guest::read_file("/proc/" + pid + "/comm").value_or("") == "sleep\n" &&
          ramet::guest::read_file("/proc/" + pid + "/cgroup").value_or("").find("ramet-agent") ==
              std::string::npos) {
        return true;
      }
    }
    return false;
  }));
  AgentClient client = guest.client();
  const auto held = client.suspend(in_seconds(10));
  REQUIRE(held.ok());
  REQUIRE(held->live_count == 1);
  CHECK(held->processes[0].comm == "sleep");
  CHECK(goes_on(left));
  CHECK(command.get().ok());
  parent.kill();
}
