// scratch.bin: what a template's guest wrote to its scratch disk, as a sparse file of the disk's
// size, and the section that says which blocks of it count.
//
// Thread rule: free functions.
// Invariant: what is loaded is a private, unnamed copy of what was saved, or DataLoss.
#ifndef RAMET_LIB_STORE_SCRATCH_FILE_H_
#define RAMET_LIB_STORE_SCRATCH_FILE_H_

#include <memory>
#include <string>

#include "devices/block/layer_stack.h"
#include "vmm/base/status.h"
#include "vmm/state/sections.h"

namespace ramet {

inline constexpr char kScratchSection[] = "scratch";

// Writes and syncs directory/scratch.bin.
StatusOr<Section> save_scratch(const block::LayerStack& scratch, const std::string& directory);
// Null when the template has no scratch disk. The copy is made in `scratch_directory`.
StatusOr<std::shared_ptr<const block::LayerStack>> load_scratch(
    std::span<const Section> sections, const std::string& directory,
    const std::string& scratch_directory);

}  // namespace ramet

#endif  // RAMET_LIB_STORE_SCRATCH_FILE_H_
