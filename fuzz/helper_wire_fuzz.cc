// What a helper process says, and what it is told: any bytes are a message or an error, and a
// message says the same again when it is written and read once more. The first byte chooses.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "lib/helper/wire/messages.h"
#include "lib/helper/wire/plan.h"
#include "lib/helper/wire/snapshot.h"

namespace {

using namespace ramet;

template <typename Decode>
void twice(std::span<const std::byte> input, Decode decode) {
  const auto first = decode(input);
  if (!first.ok()) {
    return;
  }
  const auto bytes = helper::encode(*first);
  const auto second = decode(bytes);
  if (!second.ok() || helper::encode(*second) != bytes) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  switch (data[0]) {
    case 'q':
      twice(input, helper::decode_request);
      break;
    case 'r':
      twice(input, helper::decode_reply);
      break;
    case 'e':
      twice(input, helper::decode_event);
      break;
    case 's':
      if (helper::decode_stream_error(input).ok()) {
        std::abort();
      }
      break;
    case 'p':
      helper::decode_plan(input, {}).status().IgnoreError();
      break;
    case 'n':
      twice(input, [](std::span<const std::byte> bytes) {
        return helper::decode_snapshot(bytes, {.pages = 4096, .blocks = 1024});
      });
      break;
    default:
      break;
  }
  return 0;
}
