#include "lib/store/memory_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include <absl/strings/str_format.h>

#include "lib/store/file_io.h"
#include "lib/store/manifest.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/syscall.h"
#include "vmm/state/codec.h"
#include "vmm/state/digest.h"

namespace ramet {
namespace {

constexpr uint16_t kVersion = 1;
constexpr size_t kMaxExtents = 100'000;  // 24 bytes each: within kMaxSectionBytes
constexpr uint64_t kStep = 1 << 20;
constexpr uint64_t kFirstGap = 64 * 1024;
// A sparse file costs its maker nothing, reading it costs us time: ranges that claim more than this
// many times what the file occupies are refused. Beyond kFreeBytes only, since file systems that
// compress exist.
constexpr uint64_t kMaxClaim = 64;
constexpr uint64_t kFreeBytes = uint64_t{1} << 30;

struct StoredExtent {
  Extent extent;
  uint64_t digest = 0;
};

StatusOr<uint64_t> save_extent(const MemoryImage& memory, Extent extent, int fd,
                               std::vector<std::byte>* buffer) {
  Digest digest;
  RAMET_RETURN_IF_ERROR(
      for_pieces(extent.offset, extent.size, kStep, [&](uint64_t offset, uint64_t size) {
        const auto piece = std::span(*buffer).first(size);
        RAMET_RETURN_IF_ERROR(memory.read(offset, piece));
        digest.update(piece);
        return sys::pwrite_all(fd, piece, offset, "write memory.bin");
      }));
  return digest.value();
}

StatusOr<std::vector<StoredExtent>> decode(std::span<const std::byte> bytes, uint64_t* size) {
  Decoder in(bytes, "memory");
  *size = in.bounded<uint64_t>(kPageSize, x86::kMaxMemoryBytes, "size");
  const auto count = in.bounded<uint32_t>(0, kMaxExtents, "number of extents");
  std::vector<StoredExtent> extents;
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    StoredExtent stored;
    stored.extent.offset = in.number<uint64_t>();
    stored.extent.size = in.number<uint64_t>();
    stored.digest = in.number<uint64_t>();
    extents.push_back(stored);
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  return extents;
}

Status check_file(int fd, uint64_t size, uint64_t stored) {
  struct stat info = {};
  RAMET_RETURN_IF_ERROR(sys::fstat(fd, &info).status("fstat memory.bin"));
  if (static_cast<uint64_t>(info.st_size) != size) {
    return absl::DataLossError(
        absl::StrFormat("memory.bin has %d bytes, the template's memory %d", info.st_size, size));
  }
  const uint64_t occupied = static_cast<uint64_t>(info.st_blocks) * 512;
  if (stored > kFreeBytes && stored / kMaxClaim > occupied) {
    return absl::DataLossError(
        absl::StrFormat("memory.bin occupies %d bytes, too few for the %d that it is said to hold",
                        occupied, stored));
  }
  return Status();
}

// Copies the pages of `from` that are not all zero: the others stay holes of the memory file.
void copy_pages(std::span<const std::byte> from, std::byte* to) {
  for (size_t at = 0; at < from.size(); at += kPageSize) {
    const auto page = from.subspan(at, std::min<size_t>(kPageSize, from.size() - at));
    if (std::ranges::any_of(page, [](std::byte byte) { return byte != std::byte{0}; })) {
      std::memcpy(to + at, page.data(), page.size());
    }
  }
}

Status load_extent(int fd, const StoredExtent& stored, std::span<std::byte> into,
                   std::vector<std::byte>* buffer) {
  Digest digest;
  const uint64_t start = stored.extent.offset;
  RAMET_RETURN_IF_ERROR(
      for_pieces(start, stored.extent.size, kStep, [&](uint64_t offset, uint64_t size) {
        const auto piece = std::span(*buffer).first(size);
        RAMET_RETURN_IF_ERROR(sys::pread_exactly(fd, piece, offset, "read memory.bin"));
        digest.update(piece);
        copy_pages(piece, into.data() + (offset - start));
        return Status();
      }));
  if (digest.value() != stored.digest) {
    return absl::DataLossError(absl::StrFormat(
        "memory.bin is damaged in the %d bytes at %#x: digest %016x saved, %016x found",
        stored.extent.size, start, stored.digest, digest.value()));
  }
  return Status();
}

}  // namespace

std::vector<Extent> coalesce(std::vector<Extent> extents, size_t limit) {
  for (uint64_t gap = kFirstGap; extents.size() > limit; gap *= 2) {
    std::vector<Extent> merged;
    for (const Extent& extent : extents) {
      if (!merged.empty() && extent.offset - (merged.back().offset + merged.back().size) <= gap) {
        merged.back().size = extent.offset + extent.size - merged.back().offset;
      } else {
        merged.push_back(extent);
      }
    }
    extents = std::move(merged);
  }
  return extents;
}

StatusOr<Section> save_memory(const MemoryImage& memory, const std::string& directory) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, create_member(directory, kMemoryName));
  RAMET_RETURN_IF_ERROR(sys::ftruncate(fd.get(), memory.size(), "size memory.bin"));
  const std::vector<Extent> extents = coalesce(memory.extents(), kMaxExtents);
  std::vector<std::byte> buffer(kStep);
  Encoder out;
  out.number(memory.size());
  out.number(static_cast<uint32_t>(extents.size()));
  for (const Extent& extent : extents) {
    RAMET_ASSIGN_OR_RETURN(const uint64_t digest, save_extent(memory, extent, fd.get(), &buffer));
    out.number(extent.offset);
    out.number(extent.size);
    out.number(digest);
  }
  RAMET_RETURN_IF_ERROR(sys::fsync(fd.get(), "sync memory.bin"));
  return Section{.name = kMemorySection, .version = kVersion, .bytes = out.take()};
}

StatusOr<std::shared_ptr<const MemoryImage>> load_memory(std::span<const Section> sections,
                                                         const std::string& directory) {
  RAMET_ASSIGN_OR_RETURN(const Section* section, find_section(sections, kMemorySection, kVersion));
  uint64_t size = 0;
  RAMET_ASSIGN_OR_RETURN(const auto stored, decode(section->bytes, &size));
  std::vector<Extent> extents;
  extents.reserve(stored.size());
  uint64_t total = 0;
  for (const StoredExtent& row : stored) {
    extents.push_back(row.extent);
  }
  RAMET_RETURN_IF_ERROR(as_data_loss(check_extents(size, extents), kMemoryName));
  for (const Extent& extent : extents) {
    total += extent.size;
  }
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, open_member(directory, kMemoryName));
  RAMET_RETURN_IF_ERROR(check_file(fd.get(), size, total));
  std::vector<std::byte> buffer(kStep);
  size_t next = 0;
  return MemoryImage::from_extents(size, extents, [&](uint64_t, std::span<std::byte> bytes) {
    return load_extent(fd.get(), stored[next++], bytes, &buffer);
  });
}

}  // namespace ramet
