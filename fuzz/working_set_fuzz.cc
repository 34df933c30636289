// The reader of a template's working set. What is accepted keeps the rules of WorkingSet and names
// only pages that there are; written again it gives itself.
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "lib/store/working_set_section.h"

namespace {

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

}  // namespace

// The number of pages, then the section.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint32_t pages = 0;
  if (size < sizeof pages) {
    return 0;
  }
  std::memcpy(&pages, data, sizeof pages);
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(sizeof pages);
  const ramet::Section section = {
      .name = ramet::kWorkingSetSection, .mandatory = false, .bytes = {bytes.begin(), bytes.end()}};
  const auto set = ramet::working_set_from({&section, 1}, pages);
  if (!set.ok()) {
    require(!set.status().message().empty());
    return 0;
  }
  require(ramet::check_working_set(*set, pages).ok());
  require(ramet::pages_in(set->written) + ramet::pages_in(set->read) <= pages);
  const ramet::Section again = ramet::to_section(*set);
  const auto same = ramet::working_set_from({&again, 1}, pages);
  require(same.ok() && *same == *set);
  return 0;
}
