#include "vmm/memory/page_capture.h"

#include <algorithm>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

namespace ramet {

StatusOr<PageCapture> PageCapture::create(uint64_t expected_bytes) {
  RAMET_ASSIGN_OR_RETURN(UniqueFd fd, create_memfd("ramet-capture", expected_bytes));
  Mapping warm;
  if (expected_bytes != 0) {
    RAMET_RETURN_IF_ERROR(sys::allocate(fd.get(), 0, expected_bytes));
    RAMET_ASSIGN_OR_RETURN(warm, Mapping::map_file(fd.get(), 0, expected_bytes, MapMode::kShared));
    const Status populated = warm.populate_private(0, expected_bytes);
    if (absl::IsInvalidArgument(populated)) {
      warm = Mapping();  // Linux before 5.14: every page by a call
    } else {
      RAMET_RETURN_IF_ERROR(populated);
    }
  }
  return PageCapture(std::move(fd), std::move(warm), true);
}

StatusOr<PageCapture> PageCapture::create_in(UniqueFd file, uint64_t expected_bytes) {
  RAMET_ASSIGN_OR_RETURN(const uint64_t size, sys::file_size(file.get(), "the room for pages"));
  const uint64_t room = size / kPageSize * kPageSize;
  Mapping warm;
  if (room != 0) {
    RAMET_ASSIGN_OR_RETURN(warm, Mapping::map_file(file.get(), 0, room, MapMode::kShared));
  }
  PageCapture capture(std::move(file), std::move(warm), false);
  RAMET_RETURN_IF_ERROR(capture.make_ready(std::min(expected_bytes / kPageSize * kPageSize, room)));
  return capture;
}

Status PageCapture::make_ready(uint64_t bytes) {
  if (bytes <= ready_) {
    return Status();
  }
  const Status populated = warm_.populate_private(ready_, bytes - ready_);
  ready_ = bytes;
  // Linux before 5.14 cannot: a fault for every page.
  return absl::IsInvalidArgument(populated) ? Status() : populated;
}

PageCapture PageCapture::of(UniqueFd file, std::vector<PageRange> pages) {
  PageCapture capture(std::move(file), Mapping(), false);
  capture.pages_ = std::move(pages);
  return capture;
}

Status PageCapture::take(const Pagemap& pagemap, const GuestMemory& memory) {
  RAMET_ASSIGN_OR_RETURN(pages_, pagemap.private_pages(memory));
  const uint64_t bytes = pages_in(pages_) * kPageSize;
  if (!grows_ && bytes > warm_.size()) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("a machine has %d pages of its own, and there is room for %d",
                        bytes / kPageSize, warm_.size() / kPageSize));
  }
  if (!grows_) {
    RAMET_RETURN_IF_ERROR(make_ready(bytes));
  }
  std::vector<GuestSlice> slices = memory.slices_of(pages_);
  uint64_t position = 0;
  std::span<GuestSlice> left(slices);
  RAMET_RETURN_IF_ERROR(copy_warm(memory, &left, &position));
  while (!left.empty()) {
    const auto part = left.first(std::min(left.size(), GuestMemory::kMaxSlices));
    RAMET_RETURN_IF_ERROR(copy(memory, part, &position));
    left = left.subspan(part.size());
  }
  return Status();
}

Status PageCapture::copy_warm(const GuestMemory& memory, std::span<GuestSlice>* slices,
                              uint64_t* position) const {
  while (!slices->empty() && *position < warm_.size()) {
    GuestSlice& slice = slices->front();
    const uint64_t size = std::min(slice.size, warm_.size() - *position);
    RAMET_RETURN_IF_ERROR(memory.read(slice.start, {warm_.data() + *position, size}));
    *position += size;
    slice.start.value += size;
    slice.size -= size;
    if (slice.size == 0) {
      *slices = slices->subspan(1);
    }
  }
  return Status();
}

// Many scattered pages in one call.
Status PageCapture::copy(const GuestMemory& memory, std::span<GuestSlice> slices,
                         uint64_t* position) const {
  while (!slices.empty()) {
    const sys::Result written = memory.write_to_file(fd_.get(), *position, slices);
    RAMET_RETURN_IF_ERROR(written.status("copy a machine's own pages"));
    if (written.value == 0) {
      return absl::InternalError("the copy of a machine's own pages does not move on");
    }
    auto moved = static_cast<uint64_t>(written.value);
    *position += moved;
    while (!slices.empty() && moved >= slices.front().size) {
      moved -= slices.front().size;
      slices = slices.subspan(1);
    }
    if (moved != 0) {
      slices.front().start.value += moved;
      slices.front().size -= moved;
    }
  }
  return Status();
}

}  // namespace ramet
