// MemoryImage::with_pages(): how an image becomes the base of another.
#include <algorithm>
#include <functional>

#include "vmm/base/syscall.h"
#include "vmm/memory/memory_image.h"
#include "vmm/memory/page_runs.h"

namespace ramet {
namespace {

constexpr uint64_t kStep = uint64_t{1} << 20;

std::vector<Extent> extents_of(std::span<const PageRange> pages) {
  std::vector<Extent> extents;
  for (const PageRange& range : pages) {
    append_extent(&extents, {range.first * kPageSize, range.count * kPageSize});
  }
  return extents;
}

// What of `from` lies inside one of `in`. Both ascend.
std::vector<Extent> common_extents(std::span<const Extent> from, std::span<const Extent> in) {
  std::vector<Extent> result;
  for (const Extent& each : from) {
    while (!in.empty() && in.front().end() <= each.offset) {
      in = in.subspan(1);
    }
    for (const Extent& other : in) {
      if (other.offset >= each.end()) {
        break;
      }
      const uint64_t first = std::max(each.offset, other.offset);
      append_extent(&result, {first, std::min(each.end(), other.end()) - first});
    }
  }
  return result;
}

// What of [0, size) lies in none of them.
std::vector<Extent> between(std::span<const Extent> extents, uint64_t size) {
  std::vector<Extent> result;
  uint64_t position = 0;
  for (const Extent& extent : extents) {
    append_extent(&result, {position, extent.offset - position});
    position = extent.end();
  }
  append_extent(&result, {position, size - position});
  return result;
}

std::vector<Extent> united_extents(std::vector<Extent> extents, std::span<const Extent> more) {
  extents.insert(extents.end(), more.begin(), more.end());
  std::ranges::sort(extents, {}, &Extent::offset);
  std::vector<Extent> result;
  for (const Extent& extent : extents) {
    append_extent(&result, extent);
  }
  return result;
}

// Writes what is not zero to a new file, each page at its place.
class LayerWriter {
 public:
  explicit LayerWriter(int fd) : fd_(fd), buffer_(kStep) {}

  // `read(offset, bytes)` of each extent's bytes, in order.
  using Read = std::function<Status(uint64_t offset, std::span<std::byte> into)>;
  Status copy(std::span<const Extent> extents, const Read& read) {
    for (const Extent& extent : extents) {
      for (uint64_t at = extent.offset; at < extent.end(); at += kStep) {
        const auto piece = std::span(buffer_).first(std::min(kStep, extent.end() - at));
        RAMET_RETURN_IF_ERROR(read(at, piece));
        RAMET_RETURN_IF_ERROR(write(at, piece));
      }
    }
    return Status();
  }
  std::vector<Extent> take_written() { return std::exchange(written_, {}); }

 private:
  Status write(uint64_t offset, std::span<const std::byte> bytes) {
    std::vector<Extent> runs;
    for (uint64_t at = 0; at < bytes.size(); at += kPageSize) {
      if (!is_zero_page(bytes.data() + at)) {
        append_extent(&runs, {at, kPageSize});
      }
    }
    for (const Extent& run : runs) {
      RAMET_RETURN_IF_ERROR(sys::pwrite_all(fd_, bytes.subspan(run.offset, run.size),
                                            offset + run.offset, "write a memory layer"));
      append_extent(&written_, {offset + run.offset, run.size});
    }
    return Status();
  }

  const int fd_;
  std::vector<std::byte> buffer_;
  std::vector<Extent> written_;
};

}  // namespace

StatusOr<std::shared_ptr<const MemoryImage>> MemoryImage::with_pages(
    const PageCapture& capture) const {
  LayerPlan plan = plan_layer(capture.pages(), parts_, extents_, MemoryView::kMaxParts);
  const bool whole = plan.copied_bytes > stored_bytes() / 2;
  if (whole) {
    plan = {.fresh = {{0, size_}}};
  }
  RAMET_ASSIGN_OR_RETURN(UniqueFd file,
                         create_memfd(whole ? "ramet-template" : "ramet-layer", size_));
  const std::vector<Extent> own = extents_of(capture.pages());
  LayerWriter writer(file.get());
  uint64_t captured = 0;
  RAMET_RETURN_IF_ERROR(writer.copy(own, [&](uint64_t, std::span<std::byte> into) {
    const uint64_t at = captured;
    captured += into.size();
    return sys::pread_exactly(capture.fd(), into, at, "read a machine's own pages");
  }));
  const std::vector<Extent> own_data = writer.take_written();
  const auto kept_below = common_extents(extents_, between(own, size_));
  RAMET_RETURN_IF_ERROR(
      writer.copy(common_extents(kept_below, plan.fresh),
                  [&](uint64_t offset, std::span<std::byte> into) { return read(offset, into); }));
  RAMET_RETURN_IF_ERROR(seal_memfd(file.get()));
  std::vector<Extent> extents = united_extents(own_data, kept_below);
  if (whole) {
    return of_one_file(std::move(file), size_, std::move(extents));
  }
  Files files = {files_.front()};
  std::vector<LayerPart> parts;
  for (const LayerPart& part : plan.older) {
    auto found = std::ranges::find(files, files_[part.layer]);
    if (found == files.end()) {
      found = files.insert(files.end(), files_[part.layer]);
    }
    parts.push_back({part.where, static_cast<size_t>(found - files.begin())});
  }
  if (!plan.fresh.empty()) {
    files.push_back(std::make_shared<const UniqueFd>(std::move(file)));
  }
  for (const Extent& extent : plan.fresh) {
    parts.push_back({extent, files.size() - 1});
  }
  std::ranges::sort(parts, {}, [](const LayerPart& part) { return part.where.offset; });
  return std::shared_ptr<const MemoryImage>(
      new MemoryImage(std::move(files), size_, std::move(parts), std::move(extents)));
}

}  // namespace ramet
