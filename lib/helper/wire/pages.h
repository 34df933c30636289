// Lists of pages in messages between two processes.
//
// Thread rule: pure functions.
// Invariant: what decode_pages() takes ascends, lies apart, is not empty, and is below `pages`.
#ifndef RAMET_LIB_HELPER_WIRE_PAGES_H_
#define RAMET_LIB_HELPER_WIRE_PAGES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/memory/working_set.h"
#include "vmm/state/codec.h"

namespace ramet::helper {

void encode_pages(std::span<const PageRange> ranges, Encoder* out);
// DataLoss where they are not what encode_pages() writes.
StatusOr<std::vector<PageRange>> decode_pages(Decoder* in, uint64_t pages);

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WIRE_PAGES_H_
