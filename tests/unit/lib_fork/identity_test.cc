// Host names: new ones, and those that are none.
#include "lib/fork/identity.h"

#include <cerrno>
#include <set>

#include <catch2/catch.hpp>

#include "vmm/base/fault_plan.h"

using namespace ramet;

TEST_CASE("a random host name is one, and every one is another") {
  std::set<std::string> names;
  for (int i = 0; i < 200; ++i) {
    const auto name = random_hostname();
    REQUIRE(name.ok());
    CHECK(name->size() == 14);
    CHECK(name->rfind("ramet-", 0) == 0);
    CHECK(check_hostname(*name).ok());
    names.insert(*name);
  }
  CHECK(names.size() == 200);
}

TEST_CASE("without the host's generator there is no name") {
  sys::FaultPlan plan(sys::Call::kGetrandom, 1, EIO);
  plan.arm();
  CHECK_FALSE(random_hostname().ok());
}

TEST_CASE("names of RFC 1123 are taken") {
  for (const std::string& good : {std::string("a"), std::string("0"), std::string("web-1"),
                                  std::string("A.b.C9"), std::string("x--y"), std::string(64, 'a'),
                                  std::string(31, 'a') + "." + std::string(32, 'b')}) {
    INFO(good);
    CHECK(check_hostname(good).ok());
  }
}

TEST_CASE("everything else is refused, and the message shows it printable") {
  for (const std::string& bad :
       {std::string(), std::string("-"), std::string("-a"), std::string("a-"), std::string("."),
        std::string("a."), std::string(".a"), std::string("a..b"), std::string("a.-b"),
        std::string("a_b"), std::string("a b"), std::string("a/b"), std::string("a\n"),
        std::string("a\0b", 3), std::string("\xc3\xa4"), std::string(65, 'a')}) {
    INFO(bad);
    const Status status = check_hostname(bad);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    for (const char c : status.message()) {
      CHECK((c >= ' ' && c <= '~'));
    }
  }
}
