// The escape drill, in a thread of each kind.
#include "tests/support/escape.h"

#include <cerrno>
#include <csignal>

#include <catch2/catch.hpp>

#include "vmm/jail/jail.h"

using namespace ramet;
using namespace ramet::jail;
using namespace ramet::testing;

TEST_CASE("code in a confined thread opens, connects, executes, traces and signals nothing") {
  const auto jail = Jail::create({.facts = {.kick_signal = SIGRTMIN + 6}});
  REQUIRE(jail.ok());
  uint64_t refused = 0;
  for (const ThreadKind kind : kThreadKinds) {
    for (const EscapeAttempt& attempt : escape_attempts()) {
      // It maps guest memory; and its process has no file but those that it was given.
      if (kind == ThreadKind::kHelper && attempt.what == "mmap a file") {
        continue;
      }
      long result = 0;
      int error = 0;
      auto thread = (*jail)->run(kind, [&](TenantSlot&) {
        errno = 0;
        result = attempt.call();
        error = errno;
      });
      REQUIRE(thread.ok());
      (*thread)->join();
      INFO(name_of(kind) << " tries: " << attempt.what);
      CHECK(result == -1);
      CHECK(error == EPERM);
      CHECK((*jail)->refused() == ++refused);
    }
  }
}
