// Mapping owns one range of host address space; the only code that calls mmap, mprotect, madvise
// and memfd_create.
//
// Thread rule: like std::unique_ptr; the bytes behind it are shared with a guest and change at any
// time. Invariant: a mapping is MAP_NORESERVE, MADV_DONTFORK and MADV_DONTDUMP: the embedder's own
// fork() must neither copy nor inherit guest memory, nor its core dumps contain it.
#ifndef RAMET_VMM_MEMORY_MAPPING_H_
#define RAMET_VMM_MEMORY_MAPPING_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

inline constexpr uint64_t kPageSize = 4096;

enum class MapMode : uint8_t {
  kShared,   // writes reach the file
  kPrivate,  // copy-on-write: the file never changes
  // PROT_READ. Private too, which is the same of what nobody writes to: before Linux 6.7 a memfd
  // sealed against writing cannot be mapped shared, not even to be read.
  kReadOnly,
};

// `size` bytes at `offset` of a mapping that are of another file than the rest, `file_offset` in.
struct MappedPart {
  uint64_t offset = 0;
  uint64_t size = 0;
  int fd = -1;
  uint64_t file_offset = 0;
};

class Mapping {
 public:
  Mapping() = default;
  // Maps `size` bytes of `fd` from `offset`; both are multiples of the page size.
  static StatusOr<Mapping> map_file(int fd, uint64_t offset, uint64_t size, MapMode mode) {
    return map_files(fd, offset, size, {}, mode);
  }
  // The same with `parts` of other files over it: multiples of the page size, inside `size`.
  static StatusOr<Mapping> map_files(int fd, uint64_t offset, uint64_t size,
                                     std::span<const MappedPart> parts, MapMode mode);
  // Room for stacks of threads: anonymous, never in huge pages, of which the first stack to be
  // touched would have all the memory.
  static StatusOr<Mapping> map_stacks(uint64_t size);

  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }

  // Drops the private copies of [offset, offset + size): it reads as the file again
  // (MADV_DONTNEED).
  Status drop_private(uint64_t offset, uint64_t size) const;
  // Makes private copies of the pages of [offset, offset + size) of a copy-on-write mapping, as
  // writes to them would (MADV_POPULATE_WRITE, Linux 5.14; InvalidArgument before).
  Status populate_private(uint64_t offset, uint64_t size) const;
  // Whoever touches the page at `offset` of an anonymous mapping gets SIGSEGV from now on.
  // MADV_GUARD_INSTALL (Linux 6.13) does without a mapping of its own for it; before, mprotect.
  Status guard_page(uint64_t offset) const;

 private:
  Mapping(std::byte* data, uint64_t size) : data_(data), size_(size) {}
  void unmap();

  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

// A new anonymous file of `size` bytes, all holes, that can be sealed.
StatusOr<UniqueFd> create_memfd(const char* name, uint64_t size);

// The same, sealed, with these bytes, which may be executed as a program (MFD_EXEC,
// memfd_create(2): where the kernel's vm.memfd_noexec forbids it, FailedPrecondition).
StatusOr<UniqueFd> create_program_memfd(const char* name, std::span<const std::byte> bytes);

// Forbids any further change of the memfd's size or bytes (F_SEAL_SHRINK, GROW, WRITE and SEAL).
// FailedPrecondition while a writable shared mapping of it exists.
Status seal_memfd(int fd);

// True when the file carries all the seals that seal_memfd() sets.
StatusOr<bool> is_sealed(int fd);

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_MAPPING_H_
