// LayerPlan: how the pages that a machine made its own become a layer over the image it was forked
// from, in few pieces.
//
// Thread rule: pure functions.
// Invariant: at most `most` parts in all, those of older layers that stay included; every page of
// `pages` lies in a part of the new layer, and every page of an older layer that is not among them
// in that older part or in one of the new layer, which then has a copy.
#ifndef RAMET_VMM_MEMORY_LAYER_PLAN_H_
#define RAMET_VMM_MEMORY_LAYER_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/memory/extent.h"
#include "vmm/memory/working_set.h"

namespace ramet {

// A part of an image that lies in another file than its base.
struct LayerPart {
  Extent where;
  size_t layer = 0;  // which of the layers' files

  friend bool operator==(const LayerPart&, const LayerPart&) = default;
};

struct LayerPlan {
  std::vector<Extent> fresh = {};     // parts of the new layer
  std::vector<LayerPart> older = {};  // what stays of the older ones
  uint64_t copied_bytes = 0;          // of the image below that the new layer has copies of
};

// `data`: where the image below holds something; what is between is zeros, of which a copy costs
// nothing. Gaps between the pages that hold the most are left to the image below, the others are
// filled. All of the lists ascend; nothing is planned for no pages.
LayerPlan plan_layer(std::span<const PageRange> pages, std::span<const LayerPart> older,
                     std::span<const Extent> data, size_t most);

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_LAYER_PLAN_H_
