#include "lib/helper/wire/pages.h"

#include <string>

#include <absl/strings/str_format.h>

namespace ramet::helper {
namespace {

constexpr size_t kRangeBytes = 16;

}  // namespace

void encode_pages(std::span<const PageRange> ranges, Encoder* out) {
  out->number(static_cast<uint32_t>(ranges.size()));
  for (const PageRange& range : ranges) {
    out->number(range.first);
    out->number(range.count);
  }
}

StatusOr<std::vector<PageRange>> decode_pages(Decoder* in, uint64_t pages) {
  const auto count = in->number<uint32_t>();
  RAMET_RETURN_IF_ERROR(in->status());
  // No more room than the input justifies.
  if (count > in->remaining() / kRangeBytes) {
    return absl::DataLossError(
        absl::StrFormat("%d page ranges in %d bytes", count, in->remaining()));
  }
  std::vector<PageRange> ranges(count);
  for (PageRange& range : ranges) {
    range.first = in->number<uint64_t>();
    range.count = in->number<uint64_t>();
  }
  RAMET_RETURN_IF_ERROR(in->status());
  if (const Status checked = check_working_set({.written = ranges}, pages); !checked.ok()) {
    return absl::DataLossError("pages: " + std::string(checked.message()));
  }
  return ranges;
}

}  // namespace ramet::helper
