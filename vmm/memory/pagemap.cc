#include "vmm/memory/pagemap.h"

#include <fcntl.h>
#include <linux/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

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

// What the lowest and the next level of x86-64's page tables cover (Intel SDM 3A, 4.5).
constexpr uint64_t kTableCovers = uint64_t{1} << 21;
constexpr uint64_t kDirectoryCovers = uint64_t{1} << 30;

// Areas of a size in which something lies; ranges come in ascending order.
class Areas {
 public:
  explicit Areas(uint64_t size) : size_(size) {}
  void add(uint64_t start, uint64_t end) {
    const uint64_t first = std::max(start / size_, next_);
    next_ = std::max(next_, (end - 1) / size_ + 1);
    count_ += next_ > first ? next_ - first : 0;
  }
  uint64_t count() const { return count_; }

 private:
  uint64_t size_;
  uint64_t next_ = 0;
  uint64_t count_ = 0;
};

}  // namespace

class Pagemap::Bytes : public Visitor {
 public:
  bool only_private() const override { return true; }
  void add(const Run& run) override { bytes_ += run.end - run.start; }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_ = 0;
};

class Pagemap::Tally : public Visitor {
 public:
  // Its addresses may be lower than those of the last one.
  void begin_region(const MemoryRegion& /*region*/, uint64_t /*host_start*/) override {
    use_.page_table_bytes += (tables_.count() + directories_.count()) * kPageSize;
    tables_ = Areas(kTableCovers);
    directories_ = Areas(kDirectoryCovers);
  }
  void add(const Run& run) override {
    const uint64_t bytes = run.end - run.start;
    (run.is_file ? use_.shared_bytes : use_.private_bytes) += bytes;
    use_.swapped_bytes += run.is_swapped && !run.is_file ? bytes : 0;
    tables_.add(run.start, run.end);
    directories_.add(run.start, run.end);
  }
  MemoryUse use() {
    begin_region({}, 0);
    return use_;
  }

 private:
  MemoryUse use_;
  Areas tables_{kTableCovers};
  Areas directories_{kDirectoryCovers};
};

// Regions ascend in the file, too.
class Pagemap::Touched : public Visitor {
 public:
  void begin_region(const MemoryRegion& region, uint64_t host_start) override {
    file_offset_ = region.file_offset;
    host_start_ = host_start;
  }
  void add(const Run& run) override {
    const PageRange pages = {(run.start - host_start_ + file_offset_) / kPageSize,
                             (run.end - run.start) / kPageSize};
    append_pages(pages, run.is_file ? &set_.read : &set_.written);
  }
  WorkingSet set() && { return std::move(set_); }

 private:
  uint64_t file_offset_ = 0;
  uint64_t host_start_ = 0;
  WorkingSet set_;
};

class Pagemap::Private final : public Touched {
 public:
  bool only_private() const override { return true; }
};

StatusOr<std::unique_ptr<Pagemap>> Pagemap::open() {
  RAMET_ASSIGN_OR_RETURN(UniqueFd fd, sys::open("/proc/self/pagemap", O_RDONLY));
  return std::unique_ptr<Pagemap>(new Pagemap(std::move(fd)));
}

StatusOr<uint64_t> Pagemap::private_bytes(const GuestMemory& memory, Way way) const {
  Bytes bytes;
  RAMET_RETURN_IF_ERROR(walk(memory, way, &bytes));
  return bytes.bytes();
}

StatusOr<MemoryUse> Pagemap::use(const GuestMemory& memory, Way way) const {
  Tally tally;
  RAMET_RETURN_IF_ERROR(walk(memory, way, &tally));
  return tally.use();
}

StatusOr<WorkingSet> Pagemap::touched(const GuestMemory& memory, Way way) const {
  Touched touched;
  RAMET_RETURN_IF_ERROR(walk(memory, way, &touched));
  return std::move(touched).set();
}

StatusOr<std::vector<PageRange>> Pagemap::private_pages(const GuestMemory& memory, Way way) const {
  Private pages;
  RAMET_RETURN_IF_ERROR(walk(memory, way, &pages));
  return std::move(pages).set().written;
}

Status Pagemap::walk(const GuestMemory& memory, Way way, Visitor* visitor) const {
  for (size_t i = 0; i < memory.regions().size(); ++i) {
    const uint64_t start = memory.host_address(i);
    const uint64_t end = start + memory.regions()[i].size;
    visitor->begin_region(memory.regions()[i], start);
    if (way == Way::kScan || (way == Way::kBest && can_scan())) {
      const Status scanned = scan(start, end, visitor);
      if (way == Way::kScan || !absl::IsUnimplemented(scanned)) {
        RAMET_RETURN_IF_ERROR(scanned);
        continue;
      }
      can_scan_.store(false, std::memory_order_relaxed);
    }
    RAMET_RETURN_IF_ERROR(read(start, end, visitor));
  }
  return Status();
}

Status Pagemap::scan(uint64_t start, uint64_t end, Visitor* visitor) const {
  std::array<ScanRegion, kRegions> found;
  while (start < end) {
    ScanArgument argument;
    argument.start = start;
    argument.end = end;
    argument.vec = reinterpret_cast<uint64_t>(found.data());
    argument.vec_len = found.size();
    if (visitor->only_private()) {
      argument.category_inverted = kPageIsFile;
      argument.category_mask = kPageIsFile;
    }
    argument.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
    argument.return_mask = kPageIsFile | kPageIsSwapped;
    const sys::Result result =
        sys::ioctl(fd_.get(), kPagemapScanRequest, static_cast<void*>(&argument));
    if (result.error == EINTR) {
      continue;
    }
    RAMET_RETURN_IF_ERROR(result.status("PAGEMAP_SCAN of %d bytes of guest memory", end - start));
    const auto count = std::min(static_cast<size_t>(result.value), found.size());
    for (const ScanRegion& region : std::span(found).first(count)) {
      visitor->add({.start = region.start,
                    .end = region.end,
                    .is_swapped = (region.categories & kPageIsSwapped) != 0,
                    .is_file = (region.categories & kPageIsFile) != 0});
    }
    if (argument.walk_end <= start) {
      return absl::InternalError("PAGEMAP_SCAN did not move on");
    }
    start = argument.walk_end;
  }
  return Status();
}

Status Pagemap::read(uint64_t start, uint64_t end, Visitor* visitor) const {
  std::array<uint64_t, kEntries> entries;
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
    for (const uint64_t entry : std::span(entries).first(got)) {
      const bool is_file = (entry & kEntryFile) != 0;
      if ((entry & (kEntryPresent | kEntrySwapped)) != 0 && !(is_file && visitor->only_private())) {
        visitor->add({.start = start,
                      .end = start + kPageSize,
                      .is_swapped = (entry & kEntrySwapped) != 0,
                      .is_file = is_file});
      }
      start += kPageSize;
    }
  }
  return Status();
}

}  // namespace ramet
