// A helper program that tries to get out, when it is told to (drill.h). Built three times: with
// RAMET_WITHOUT_FILTER it says what stands in the way besides seccomp, with RAMET_RECORD it counts
// what it needs.
#include <cerrno>
#include <optional>
#include <string>

#include <absl/strings/str_join.h>

#include "lib/helper/program/helper_main.h"
#include "tests/support/escape.h"
#include "tests/support/helper/drill.h"
#include "vmm/base/clock.h"

using namespace ramet;

namespace {

Status counts(const jail::Jail& jail, jail::ThreadKind kind) {
  return absl::AbortedError(absl::StrJoin(jail.row_uses(kind), " "));
}

Status attempt(const testing::EscapeAttempt& what) {
  errno = 0;
  const long result = what.call();
  return absl::AbortedError(what.what + ": " + std::to_string(result) + ", errno " +
                            std::to_string(errno));
}

std::optional<Status> intercept(const helper::Request& request, const helper::ServerParts& parts) {
  const auto* connect = std::get_if<helper::Connect>(&request);
  if (connect == nullptr || connect->guest_port < testing::kDrillPort) {
    return std::nullopt;
  }
  if (connect->guest_port >= testing::kCountPort) {
    return counts(*parts.jail,
                  static_cast<jail::ThreadKind>(connect->guest_port - testing::kCountPort));
  }
  while (connect->guest_port == testing::kBurnPort) {
    asm volatile("pause");
  }
#if defined(RAMET_WITHOUT_FILTER)
  const auto attempts = testing::outside_attempts();
#else
  const auto attempts = testing::escape_attempts();
#endif
  const auto& what = attempts.at(connect->guest_port & 0xff);
  Status result;
  const auto run = [&] { result = attempt(what); };
  switch (static_cast<testing::DrillThread>(connect->guest_port >> 8 & 0xff)) {
    case testing::DrillThread::kFirst:
      run();
      break;
    case testing::DrillThread::kVcpu: {
      const auto thread =
          parts.jail->run(jail::ThreadKind::kVcpu, [&](jail::TenantSlot&) { run(); });
      (*thread)->join();
      break;
    }
    case testing::DrillThread::kWorker:
      parts.workers->post(run);
      parts.workers->drain(monotonic_ns() + 10'000'000'000).IgnoreError();
      break;
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
#if defined(RAMET_WITHOUT_FILTER)
  constexpr bool kWithoutFilter = true;
#else
  constexpr bool kWithoutFilter = false;
#endif
#if defined(RAMET_RECORD)
  constexpr bool kRecord = true;
#else
  constexpr bool kRecord = false;
#endif
  return helper::helper_main(
      argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "",
      {.intercept = intercept, .without_filter = kWithoutFilter, .record = kRecord});
}
