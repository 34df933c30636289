// How a test says that it cannot run here. Catch2 v2 knows no skipping: a test case that just
// returned would count as passed. RAMET_SKIP("why") records the reason, and tests/run counts the
// test case as skipped, never as passed.
//
// Thread rule: on the test's own thread, in a TEST_CASE or SECTION body (it returns from it, so in
// a SECTION the sections after it do not run either). Invariant: a test case that skipped in any of
// its sections is skipped, unless an assertion failed.
#ifndef RAMET_TESTS_SUPPORT_SKIP_H_
#define RAMET_TESTS_SUPPORT_SKIP_H_

#include <string>

#include <catch2/catch.hpp>

namespace ramet::testing {

// Notes that the running test case is skipped. Tests use RAMET_SKIP.
void record_skip(const std::string& why);

}  // namespace ramet::testing

#define RAMET_SKIP(why)                          \
  do {                                           \
    const std::string ramet_skip_why = why;      \
    ramet::testing::record_skip(ramet_skip_why); \
    SUCCEED("SKIPPED: " << ramet_skip_why);      \
    return;                                      \
  } while (false)

#endif  // RAMET_TESTS_SUPPORT_SKIP_H_
