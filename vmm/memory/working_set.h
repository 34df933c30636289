// WorkingSet: the pages of a template's memory file that its forks touch soon: those that they
// write to, and those that they only read.
//
// Thread rule: plain values and pure functions.
// Invariant: ranges ascend, lie apart, and are not empty; no page is in both lists.
#ifndef RAMET_VMM_MEMORY_WORKING_SET_H_
#define RAMET_VMM_MEMORY_WORKING_SET_H_

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"

namespace ramet {

// Pages `first` to `first + count - 1`.
struct PageRange {
  uint64_t first = 0;
  uint64_t count = 0;

  friend bool operator==(const PageRange&, const PageRange&) = default;
};

struct WorkingSet {
  std::vector<PageRange> written = {};
  std::vector<PageRange> read = {};

  bool empty() const { return written.empty() && read.empty(); }
  friend bool operator==(const WorkingSet&, const WorkingSet&) = default;
};

uint64_t pages_in(std::span<const PageRange> ranges);
// Appends pages that follow all of `ranges`, to the last one where they touch it.
void append_pages(PageRange pages, std::vector<PageRange>* ranges);
// The pages of either, of both, and those in `a` that are not in `b`.
std::vector<PageRange> united(std::span<const PageRange> a, std::span<const PageRange> b);
std::vector<PageRange> common(std::span<const PageRange> a, std::span<const PageRange> b);
std::vector<PageRange> without(std::span<const PageRange> a, std::span<const PageRange> b);
// InvalidArgument unless the invariant holds and every page is below `pages`.
Status check_working_set(const WorkingSet& set, uint64_t pages);

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_WORKING_SET_H_
