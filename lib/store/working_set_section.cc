#include "lib/store/working_set_section.h"

#include <algorithm>

#include "vmm/state/codec.h"

namespace ramet {
namespace {

constexpr uint16_t kVersion = 1;
constexpr size_t kRangeBytes = 12;  // u64 first, u32 count
// Of each list.
constexpr size_t kMostRanges = kMaxSectionBytes / 2 / kRangeBytes - 1;
constexpr uint64_t kMostInRange = UINT32_MAX;

void put(std::span<const PageRange> ranges, Encoder* out) {
  const auto kept = ranges.first(std::min(ranges.size(), kMostRanges));
  out->number(static_cast<uint32_t>(kept.size()));
  for (const PageRange& range : kept) {
    out->number(range.first);
    out->number(static_cast<uint32_t>(std::min(range.count, kMostInRange)));
  }
}

std::vector<PageRange> take(Decoder* in) {
  std::vector<PageRange> ranges;
  // What is not there is not made room for.
  const auto count = in->bounded<uint32_t>(
      0, static_cast<uint32_t>(std::min(kMostRanges, in->remaining() / kRangeBytes)), "ranges");
  for (uint32_t i = 0; i < count && in->ok(); ++i) {
    const auto first = in->number<uint64_t>();
    ranges.push_back({first, in->number<uint32_t>()});
  }
  return ranges;
}

}  // namespace

Section to_section(const WorkingSet& set) {
  Encoder out;
  put(set.written, &out);
  put(set.read, &out);
  return {.name = kWorkingSetSection, .version = kVersion, .mandatory = false, .bytes = out.take()};
}

StatusOr<WorkingSet> working_set_from(std::span<const Section> sections, uint64_t pages) {
  const auto section = find_section(sections, kWorkingSetSection, kVersion);
  if (!section.ok()) {
    return WorkingSet();
  }
  Decoder in((*section)->bytes, "section working-set");
  WorkingSet set = {.written = take(&in), .read = take(&in)};
  RAMET_RETURN_IF_ERROR(in.finish());
  if (const Status checked = check_working_set(set, pages); !checked.ok()) {
    return absl::DataLossError("section working-set: " + std::string(checked.message()));
  }
  return set;
}

}  // namespace ramet
