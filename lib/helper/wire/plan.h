// Plan: what a helper process makes a machine from, as bytes and descriptors: the saved state, the
// disks and the working set of a template.
//
// Thread rule: pure functions.
// Invariant: decode_plan() of what encode_plan() gave is the same machine; it takes hostile bytes.
#ifndef RAMET_LIB_HELPER_WIRE_PLAN_H_
#define RAMET_LIB_HELPER_WIRE_PLAN_H_

#include <cstddef>
#include <span>
#include <vector>

#include "lib/instance/instance.h"
#include "lib/instance/instance_state.h"
#include "vmm/base/status.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/working_set.h"

namespace ramet::helper {

inline constexpr size_t kMaxPlanBytes = size_t{128} << 20;

// The descriptors that a plan counts on, in its order: the root disk's file, the scratch disk's
// base, its layers from the oldest on; those that there are; then that of each part of memory which
// is not of the memory's first file, which comes by itself.
std::vector<int> files_of(const Disks& disks, const MemoryView& memory);

std::vector<std::byte> encode_plan(const InstanceState& state, const Disks& disks,
                                   const MemoryView& memory, const WorkingSet& working_set);

struct Plan {
  InstanceState state;
  Disks disks;
  // Without its first file; descriptors of `files`.
  MemoryView memory;
  WorkingSet working_set;
  std::vector<UniqueFd> files;
};
// DataLoss where the bytes, or their number of files, are not what encode_plan() makes.
StatusOr<Plan> decode_plan(std::span<const std::byte> bytes, std::vector<UniqueFd> files);

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WIRE_PLAN_H_
