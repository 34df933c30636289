#include "vmm/memory/layer_plan.h"

#include <algorithm>

#include "vmm/memory/mapping.h"

namespace ramet {
namespace {

// What lies between two runs of pages, or between the last of them and the farthest older part on
// that side: it is left alone, or filled.
struct Gap {
  uint64_t first = 0;
  uint64_t end = 0;
  uint64_t bytes = 0;  // to copy where it is filled
  size_t older = 0;    // parts of older layers in it
  bool inner = false;  // left alone, it parts the new layer in two
  bool kept = false;

  size_t parts() const { return older + (inner ? 1 : 0); }
};

// How much of [first, end) the extents cover. They, and what is asked, ascend.
class Cover {
 public:
  explicit Cover(std::span<const Extent> extents) : left_(extents) {}
  uint64_t bytes(uint64_t first, uint64_t end) {
    while (!left_.empty() && left_.front().end() <= first) {
      left_ = left_.subspan(1);
    }
    uint64_t bytes = 0;
    for (const Extent& extent : left_) {
      if (extent.offset >= end) {
        break;
      }
      bytes += std::min(end, extent.end()) - std::max(first, extent.offset);
    }
    return bytes;
  }

 private:
  std::span<const Extent> left_;
};

// The parts of older layers inside [first, end), cut to it.
std::vector<LayerPart> inside(std::span<const LayerPart> older, uint64_t first, uint64_t end) {
  std::vector<LayerPart> parts;
  for (const LayerPart& part : older) {
    const uint64_t from = std::max(first, part.where.offset);
    const uint64_t to = std::min(end, part.where.end());
    if (from < to) {
      parts.push_back({{from, to - from}, part.layer});
    }
  }
  return parts;
}

std::vector<Gap> find_gaps(std::span<const PageRange> pages, std::span<const LayerPart> older,
                           std::span<const Extent> data) {
  const uint64_t first = pages.front().first * kPageSize;
  const uint64_t end = (pages.back().first + pages.back().count) * kPageSize;
  std::vector<Gap> gaps;
  if (!older.empty() && older.front().where.offset < first) {
    gaps.push_back({.first = older.front().where.offset, .end = first});
  }
  for (size_t i = 1; i < pages.size(); ++i) {
    gaps.push_back({.first = (pages[i - 1].first + pages[i - 1].count) * kPageSize,
                    .end = pages[i].first * kPageSize,
                    .inner = true});
  }
  if (!older.empty() && older.back().where.end() > end) {
    gaps.push_back({.first = end, .end = older.back().where.end()});
  }
  Cover cover(data);
  for (Gap& gap : gaps) {
    gap.bytes = cover.bytes(gap.first, gap.end);
    gap.older = inside(older, gap.first, gap.end).size();
  }
  return gaps;
}

// The dearest for the parts that they cost.
void choose_kept(std::vector<Gap>* gaps, size_t most) {
  std::vector<Gap*> by_price;
  for (Gap& gap : *gaps) {
    if (gap.bytes != 0) {
      by_price.push_back(&gap);
    }
  }
  std::ranges::stable_sort(by_price, [](const Gap* a, const Gap* b) {
    return a->bytes / std::max<size_t>(a->parts(), 1) > b->bytes / std::max<size_t>(b->parts(), 1);
  });
  size_t parts = 1;
  for (Gap* gap : by_price) {
    if (parts + gap->parts() <= most) {
      gap->kept = true;
      parts += gap->parts();
    }
  }
}

}  // namespace

LayerPlan plan_layer(std::span<const PageRange> pages, std::span<const LayerPart> older,
                     std::span<const Extent> data, size_t most) {
  LayerPlan plan;
  if (pages.empty()) {
    plan.older.assign(older.begin(), older.end());
    return plan;
  }
  std::vector<Gap> gaps = find_gaps(pages, older, data);
  choose_kept(&gaps, most);
  const bool begins_early = !gaps.empty() && !gaps.front().inner && !gaps.front().kept &&
                            gaps.front().end == pages.front().first * kPageSize;
  uint64_t begin = begins_early ? gaps.front().first : pages.front().first * kPageSize;
  uint64_t end = (pages.back().first + pages.back().count) * kPageSize;
  for (const Gap& gap : gaps) {
    if (!gap.kept) {
      plan.copied_bytes += gap.bytes;
      end = std::max(end, gap.end);
      continue;
    }
    const auto stay = inside(older, gap.first, gap.end);
    plan.older.insert(plan.older.end(), stay.begin(), stay.end());
    if (gap.inner) {
      plan.fresh.push_back({begin, gap.first - begin});
      begin = gap.end;
    }
  }
  plan.fresh.push_back({begin, end - begin});
  return plan;
}

}  // namespace ramet
