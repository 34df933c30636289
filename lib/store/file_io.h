// Whole files of a template's directory, read within limits and written durably.
//
// Thread rule: free functions.
// Invariant: only regular files are opened, never a link's target, so that a hostile directory
// cannot lead elsewhere.
#ifndef RAMET_LIB_STORE_FILE_IO_H_
#define RAMET_LIB_STORE_FILE_IO_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"

namespace ramet {

// Opens directory/name for reading. DataLoss when it is missing or no regular file.
StatusOr<UniqueFd> open_member(const std::string& directory, const std::string& name);
// All of it; DataLoss beyond `limit` bytes.
StatusOr<std::vector<std::byte>> read_member(const std::string& directory, const std::string& name,
                                             size_t limit);
// Creates directory/name, which must not exist.
StatusOr<UniqueFd> create_member(const std::string& directory, const std::string& name);
// Creates, fills and syncs it.
Status write_member(const std::string& directory, const std::string& name,
                    std::span<const std::byte> bytes);
// `status` as DataLoss: what a file says was out of bounds, which is not the caller's fault.
Status as_data_loss(const Status& status, const std::string& what);
// Calls `piece` with the offsets and sizes, at most `step` each, that make up [offset, offset +
// size).
Status for_pieces(uint64_t offset, uint64_t size, uint64_t step,
                  const std::function<Status(uint64_t offset, uint64_t size)>& piece);

}  // namespace ramet

#endif  // RAMET_LIB_STORE_FILE_IO_H_
