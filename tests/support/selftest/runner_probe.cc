// Tests that pass, fail, skip, crash and hang: what the test runner must count rightly.
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/support/skip.h"

TEST_CASE("passes", "[pass]") { CHECK(1 + 1 == 2); }

TEST_CASE("fails", "[.][fail]") { CHECK(1 + 1 == 3); }

TEST_CASE("skips", "[skip]") { RAMET_SKIP("this machine has no such thing"); }

TEST_CASE("skips in one section and passes in the other", "[skip]") {
  SECTION("runs") { CHECK(true); }
  SECTION("skips") { RAMET_SKIP("half of it"); }
}

TEST_CASE("fails although a section skipped", "[.][fail]") {
  SECTION("fails") { CHECK(false); }
  SECTION("skips") { RAMET_SKIP("half of it"); }
}

TEST_CASE("asserts nothing", "[.][nothing]") {}

TEST_CASE("crashes", "[.][crash]") { __builtin_trap(); }

TEST_CASE("leaves the process", "[.][leave]") { ::_exit(0); }

TEST_CASE("hangs", "[.][hang]") {
  while (true) {
    ::pause();
  }
}
