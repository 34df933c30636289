#include "vmm/memory/pagemap.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet {
namespace {

// include/uapi/linux/fs.h of Linux 6.7: struct pm_scan_arg, struct page_region, PAGE_IS_*. The
// headers that this is built with may be older.
struct ScanArgument {
  uint64_t size = sizeof(ScanArgument);
  uint64_t flags = 0;
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t walk_end = 0;
  uint64_t vec = 0;
  uint64_t vec_len = 0;
  uint64_t max_pages = 0;
  uint64_t category_inverted = 0;
  uint64_t category_mask = 0;
  uint64_t category_anyof_mask = 0;
  uint64_t return_mask = 0;
};
static_assert(kPagemapScanRequest == _IOWR('f', 16, ScanArgument));
struct ScanRegion {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t categories = 0;
};
static_assert(sizeof(ScanRegion) == 24);
constexpr uint64_t kPageIsFile = 1 << 2;
constexpr uint64_t kPageIsPresent = 1 << 3;
constexpr uint64_t kPageIsSwapped = 1 << 4;
constexpr size_t kRegions = 512;

// admin-guide/mm/pagemap.rst.
constexpr uint64_t kEntryPresent = uint64_t{1} << 63;
constexpr uint64_t kEntrySwapped = uint64_t{1} << 62;
constexpr uint64_t kEntryFile = uint64_t{1} << 61;
constexpr size_t kEntries = 2048;

bool is_private(uint64_t entry) {
  return (entry & (kEntryPresent | kEntrySwapped)) != 0 && (entry & kEntryFile) == 0;
}

template <typename Range>
StatusOr<uint64_t> sum_regions(const GuestMemory& memory, Range range) {
  uint64_t total = 0;
  for (size_t i = 0; i < memory.regions().size(); ++i) {
    const uint64_t start = memory.host_address(i);
    RAMET_ASSIGN_OR_RETURN(const uint64_t bytes, range(start, start + memory.regions()[i].size));
    total += bytes;
  }
  return total;
}

}  // namespace

StatusOr<std::unique_ptr<Pagemap>> Pagemap::open() {
  RAMET_ASSIGN_OR_RETURN(UniqueFd fd, sys::open("/proc/self/pagemap", O_RDONLY));
  return std::unique_ptr<Pagemap>(new Pagemap(std::move(fd)));
}

StatusOr<uint64_t> Pagemap::private_bytes(const GuestMemory& memory) const {
  if (can_scan()) {
    auto scanned = scan(memory);
    if (!absl::IsUnimplemented(scanned.status())) {
      return scanned;
    }
    can_scan_.store(false, std::memory_order_relaxed);
  }
  return read_entries(memory);
}

StatusOr<uint64_t> Pagemap::scan(const GuestMemory& memory) const {
  return sum_regions(memory,
                     [this](uint64_t start, uint64_t end) { return scan_range(start, end); });
}

StatusOr<uint64_t> Pagemap::read_entries(const GuestMemory& memory) const {
  return sum_regions(memory,
                     [this](uint64_t start, uint64_t end) { return read_range(start, end); });
}

StatusOr<uint64_t> Pagemap::scan_range(uint64_t start, uint64_t end) const {
  std::array<ScanRegion, kRegions> found;
  uint64_t bytes = 0;
  while (start < end) {
    ScanArgument argument;
    argument.start = start;
    argument.end = end;
    argument.vec = reinterpret_cast<uint64_t>(found.data());
    argument.vec_len = found.size();
    argument.category_inverted = kPageIsFile;
    argument.category_mask = kPageIsFile;
    argument.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
    const sys::Result result =
        sys::ioctl(fd_.get(), kPagemapScanRequest, static_cast<void*>(&argument));
    if (result.error == EINTR) {
      continue;
    }
    RAMET_RETURN_IF_ERROR(
        result.status(absl::StrFormat("PAGEMAP_SCAN of %d bytes of guest memory", end - start)));
    const auto count = std::min(static_cast<size_t>(result.value), found.size());
    for (const ScanRegion& region : std::span(found).first(count)) {
      bytes += region.end - region.start;
    }
    if (argument.walk_end <= start) {
      return absl::InternalError("PAGEMAP_SCAN did not move on");
    }
    start = argument.walk_end;
  }
  return bytes;
}

StatusOr<uint64_t> Pagemap::read_range(uint64_t start, uint64_t end) const {
  std::array<uint64_t, kEntries> entries;
  uint64_t pages = 0;
  while (start < end) {
    const size_t wanted = std::min<uint64_t>((end - start) / kPageSize, entries.size());
    const iovec part = {entries.data(), wanted * sizeof(uint64_t)};
    const sys::Result result =
        sys::preadv(fd_.get(), std::span(&part, 1), start / kPageSize * sizeof(uint64_t));
    RAMET_RETURN_IF_ERROR(result.status("read /proc/self/pagemap"));
    const size_t got = static_cast<size_t>(result.value) / sizeof(uint64_t);
    if (got == 0) {
      return absl::DataLossError("/proc/self/pagemap ends before guest memory does");
    }
    pages +=
        static_cast<uint64_t>(std::ranges::count_if(std::span(entries).first(got), is_private));
    start += got * kPageSize;
  }
  return pages * kPageSize;
}

}  // namespace ramet
