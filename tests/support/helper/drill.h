// What the tests ask of helper programs that try to get out: a Connect to a port that says which
// attempt to make, on which thread.
//
// Thread rule: constants and pure functions.
#ifndef RAMET_TESTS_SUPPORT_HELPER_DRILL_H_
#define RAMET_TESTS_SUPPORT_HELPER_DRILL_H_

#include <cstdint>

namespace ramet::testing {

enum class DrillThread : uint8_t { kFirst, kVcpu, kWorker };

// Answers with how often each row of the policy of a kind of threads was used: "3 0 17 ...".
constexpr uint32_t kCountPort = 0xf000'0000;
// Never answers, and computes.
constexpr uint32_t kBurnPort = 0xe000'0000;
constexpr uint32_t kDrillPort = 0xd000'0000;
constexpr uint32_t drill_port(uint32_t attempt, DrillThread thread) {
  return kDrillPort | static_cast<uint32_t>(thread) << 8 | attempt;
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_HELPER_DRILL_H_
