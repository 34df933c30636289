#include "vmm/memory/working_set.h"

#include <algorithm>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

uint64_t end_of(const PageRange& range) { return range.first + range.count; }

Status check_ranges(std::span<const PageRange> ranges, uint64_t pages) {
  uint64_t next = 0;
  for (const PageRange& range : ranges) {
    if (range.count == 0 || range.first < next || range.first >= pages ||
        range.count > pages - range.first) {
      return absl::InvalidArgumentError(
          absl::StrFormat("a working set with pages %d and %d further of %d, after page %d",
                          range.first, range.count, pages, next));
    }
    next = end_of(range) + 1;  // two that touch are one
  }
  return Status();
}

}  // namespace

uint64_t pages_in(std::span<const PageRange> ranges) {
  uint64_t pages = 0;
  for (const PageRange& range : ranges) {
    pages += range.count;
  }
  return pages;
}

void append_pages(PageRange pages, std::vector<PageRange>* ranges) {
  if (!ranges->empty() && end_of(ranges->back()) >= pages.first) {
    const uint64_t end = std::max(end_of(ranges->back()), end_of(pages));
    ranges->back().count = end - ranges->back().first;
  } else if (pages.count != 0) {
    ranges->push_back(pages);
  }
}

std::vector<PageRange> united(std::span<const PageRange> a, std::span<const PageRange> b) {
  std::vector<PageRange> all(a.begin(), a.end());
  all.insert(all.end(), b.begin(), b.end());
  std::ranges::sort(all, {}, &PageRange::first);
  std::vector<PageRange> result;
  for (const PageRange& range : all) {
    append_pages(range, &result);
  }
  return result;
}

std::vector<PageRange> without(std::span<const PageRange> a, std::span<const PageRange> b) {
  std::vector<PageRange> result;
  auto hole = b.begin();
  for (PageRange range : a) {
    while (hole != b.end() && end_of(*hole) <= range.first) {
      ++hole;
    }
    for (auto each = hole; each != b.end() && each->first < end_of(range); ++each) {
      if (each->first > range.first) {
        result.push_back({range.first, each->first - range.first});
      }
      const uint64_t end = end_of(range);
      range.first = std::min(end, end_of(*each));
      range.count = end - range.first;
    }
    if (range.count != 0) {
      result.push_back(range);
    }
  }
  return result;
}

std::vector<PageRange> common(std::span<const PageRange> a, std::span<const PageRange> b) {
  return without(a, without(a, b));
}

Status check_working_set(const WorkingSet& set, uint64_t pages) {
  RAMET_RETURN_IF_ERROR(check_ranges(set.written, pages));
  RAMET_RETURN_IF_ERROR(check_ranges(set.read, pages));
  return without(set.read, set.written) == set.read
             ? Status()
             : absl::InvalidArgumentError(
                   "a working set with a page that is both written and read");
}

}  // namespace ramet
