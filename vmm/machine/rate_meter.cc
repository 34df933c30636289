#include "vmm/machine/rate_meter.h"

#include <algorithm>

namespace ramet {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
// What may come at once after a quiet time.
constexpr uint64_t kBurstNs = kSecondNs / 10;

}  // namespace

RateMeter::Answer RateMeter::take(uint64_t count, uint64_t now_ns) {
  if (!limits()) {
    return {.granted = count};
  }
  return limit_.ends ? take_of_second(count, now_ns) : take_and_wait(count, now_ns);
}

// The generic cell rate algorithm (ITU-T I.371): one number says how much is owed.
RateMeter::Answer RateMeter::take_and_wait(uint64_t count, uint64_t now_ns) {
  const uint64_t earliest = now_ns > kBurstNs ? now_ns - kBurstNs : 0;
  const uint64_t price = std::min(count, kMaxPerSecond) * kSecondNs / limit_.per_second;
  paid_until_ns_ = std::max(paid_until_ns_, earliest) + price;
  return {.granted = count, .wait_until_ns = paid_until_ns_ > now_ns ? paid_until_ns_ : 0};
}

RateMeter::Answer RateMeter::take_of_second(uint64_t count, uint64_t now_ns) {
  if (now_ns - second_start_ns_ >= kSecondNs) {
    second_start_ns_ = now_ns;
    used_ = 0;
  }
  const uint64_t granted = std::min(count, limit_.per_second - used_);
  const Answer answer = {.granted = granted, .used = used_ + count};
  used_ += granted;
  return answer;
}

}  // namespace ramet
