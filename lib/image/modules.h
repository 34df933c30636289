// The modules of a kernel's folder (lib/modules/RELEASE), found, ordered and unpacked for an
// initramfs.
//
// Thread rule: free functions, call from anywhere. The folder is only read.
// Invariant: a module handed out is an ELF file of at most kMaxModuleBytes.
#ifndef RAMET_LIB_IMAGE_MODULES_H_
#define RAMET_LIB_IMAGE_MODULES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "lib/image/module_index.h"
#include "vmm/base/status.h"

namespace ramet {

inline constexpr size_t kMaxModuleBytes = size_t{64} * 1024 * 1024;

struct LoadableModule {
  std::string name;
  bool may_fail = false;
  std::vector<std::byte> elf;
};

// Reads modules.dep, .softdep and .alias; where they are missing (a package unpacked but not
// installed) asks "depmod -n", which takes seconds and writes nothing. NotFound when the folder or
// depmod is missing.
StatusOr<ModuleIndex> read_module_index(const std::string& modules_folder);

// `needed` must be there, as modules or built in; of `wanted` those that are. In loading order.
StatusOr<std::vector<LoadableModule>> collect_modules(const std::string& modules_folder,
                                                      const std::vector<std::string>& needed,
                                                      const std::vector<std::string>& wanted);

}  // namespace ramet

#endif  // RAMET_LIB_IMAGE_MODULES_H_
