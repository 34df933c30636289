// add_root_tree: a folder of the host as the content of an initramfs, for guests whose root is the
// initramfs itself (ramet.root=initramfs).
//
// Thread rule: free function. The folder is only read.
// Invariant: entries are added in the order of their names, with mode and owner, without times;
// devices, sockets and FIFOs are left out: /dev is the kernel's.
#ifndef RAMET_LIB_IMAGE_ROOT_TREE_H_
#define RAMET_LIB_IMAGE_ROOT_TREE_H_

#include <cstddef>
#include <string>

#include "lib/image/cpio.h"
#include "vmm/base/status.h"

namespace ramet {

inline constexpr size_t kMaxTreeDepth = 64;

// NotFound without the folder; ResourceExhausted when it does not fit kMaxArchiveBytes or is nested
// deeper than kMaxTreeDepth.
Status add_root_tree(CpioWriter& writer, const std::string& folder);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_ROOT_TREE_H_
