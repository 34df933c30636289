// MemoryImage: a template's memory as a sealed memfd, which any number of machines map
// copy-on-write.
//
// Thread rule: immutable once made; share freely.
// Invariant: the file is sealed, so neither its size nor its bytes can change under a mapping (a
// truncated file would be a SIGBUS in the embedder). Pages of zeros are holes.
#ifndef RAMET_VMM_MEMORY_MEMORY_IMAGE_H_
#define RAMET_VMM_MEMORY_MEMORY_IMAGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

// A run of pages that are not all zero: `size` bytes at `offset`, both multiples of the page size.
struct Extent {
  uint64_t offset = 0;
  uint64_t size = 0;

  friend bool operator==(const Extent&, const Extent&) = default;
};

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

  int fd() const { return fd_.get(); }
  uint64_t size() const { return size_; }
  const std::vector<Extent>& extents() const { return extents_; }
  uint64_t stored_bytes() const;

  // Copies [offset, offset + into.size()) out.
  Status read(uint64_t offset, std::span<std::byte> into) const;

 private:
  MemoryImage(UniqueFd fd, uint64_t size, std::vector<Extent> extents)
      : fd_(std::move(fd)), size_(size), extents_(std::move(extents)) {}

  const UniqueFd fd_;
  const uint64_t size_;
  const std::vector<Extent> extents_;
};

// InvalidArgument unless the extents ascend without touching, are page-aligned, not empty, and lie
// inside `size`.
Status check_extents(uint64_t size, std::span<const Extent> extents);

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_MEMORY_IMAGE_H_
