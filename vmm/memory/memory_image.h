// MemoryImage: a template's memory as sealed memfds, which any number of machines map
// copy-on-write: a base, and over some of it at most MemoryView::kMaxParts parts of layers.
//
// Thread rule: share freely; what can be seen of it never changes.
// Invariant: the files are sealed, so neither their size nor their bytes can change under a mapping
// (a truncated file would be a SIGBUS in the embedder). Pages of zeros are holes. Every file is as
// large as the image and holds each page at the page's own offset, and nothing is looked for in
// more than one: whatever an image was forked and layered from, it costs its forks the same.
#ifndef RAMET_VMM_MEMORY_MEMORY_IMAGE_H_
#define RAMET_VMM_MEMORY_MEMORY_IMAGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/extent.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/layer_plan.h"
#include "vmm/memory/mapping.h"
#include "vmm/memory/page_capture.h"

namespace ramet {

class MemoryImage {
 public:
  // Takes over a memfd that no writable shared mapping uses any more: frees its zero pages, then
  // seals it.
  static StatusOr<std::shared_ptr<const MemoryImage>> freeze(UniqueFd memfd, uint64_t size);

  // Makes an image of `size` bytes whose extents are filled, in order, by `fill(offset, bytes)`;
  // the rest is holes. The extents must ascend, be page-aligned and lie inside `size`.
  using Fill = std::function<Status(uint64_t offset, std::span<std::byte> bytes)>;
  static StatusOr<std::shared_ptr<const MemoryImage>> from_extents(uint64_t size,
                                                                   std::span<const Extent> extents,
                                                                   const Fill& fill);

  // The image of a machine that was forked from this one and whose own pages are `capture`'s: a
  // layer over this one's base, and over what of its layers it does not cover. Where more than half
  // of this image would be copied into the layer, one file without a layer instead.
  StatusOr<std::shared_ptr<const MemoryImage>> with_pages(const PageCapture& capture) const;

  // The base's.
  int fd() const { return files_.front()->get(); }
  uint64_t size() const { return size_; }
  // What to map; valid while the image lives.
  MemoryView view() const;
  // Where it holds something: runs of pages that are not all zero.
  const std::vector<Extent>& extents() const { return extents_; }
  const std::vector<LayerPart>& parts() const { return parts_; }
  uint64_t stored_bytes() const;

  // Copies [offset, offset + into.size()) out.
  Status read(uint64_t offset, std::span<std::byte> into) const;
  // All of it, for who reads here and there: mapped at the first call, and for as long as the image
  // lives. To read a page of a hole gives the file that page.
  StatusOr<std::span<const std::byte>> bytes() const;

 private:
  // The base's, then those of the layers in parts().
  using Files = std::vector<std::shared_ptr<const UniqueFd>>;

  MemoryImage(Files files, uint64_t size, std::vector<LayerPart> parts, std::vector<Extent> extents)
      : files_(std::move(files)),
        size_(size),
        parts_(std::move(parts)),
        extents_(std::move(extents)) {}
  static std::shared_ptr<const MemoryImage> of_one_file(UniqueFd fd, uint64_t size,
                                                        std::vector<Extent> extents);

  const Files files_;
  const uint64_t size_;
  const std::vector<LayerPart> parts_;  // ascending, apart from each other
  const std::vector<Extent> extents_;
  mutable std::mutex mutex_;
  mutable std::optional<Mapping> mapping_;  // under mutex_
};

// InvalidArgument unless the extents ascend without touching, are page-aligned, not empty, and lie
// inside `size`.
Status check_extents(uint64_t size, std::span<const Extent> extents);

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_MEMORY_IMAGE_H_
