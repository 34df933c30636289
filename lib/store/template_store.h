// A template as a directory: manifest.json, vmstate.bin, memory.bin and, with a scratch disk,
// scratch.bin.
//
// Thread rule: free functions.
// Invariant: loading takes a hostile directory: it yields a template or an error with reason
// bad_template, bad_image or incompatible. Everything is verified once, here, and nothing on the
// way of a fork.
#ifndef RAMET_LIB_STORE_TEMPLATE_STORE_H_
#define RAMET_LIB_STORE_TEMPLATE_STORE_H_

#include <memory>
#include <string>

#include "lib/core/template_data.h"
#include "lib/store/manifest.h"
#include "vmm/base/status.h"

namespace ramet {

struct LoadSpec {
  std::string directory;
  std::string rootfs = {};  // where the root image is now; empty: where it was
  std::string scratch_directory = "/var/tmp";
};

// Whole or not at all; AlreadyExists when `directory` is there.
Status save_template(const TemplateData& data, const std::string& directory);
StatusOr<std::shared_ptr<const TemplateData>> load_template(const LoadSpec& spec);
StatusOr<Manifest> read_manifest(const std::string& directory);

}  // namespace ramet

#endif  // RAMET_LIB_STORE_TEMPLATE_STORE_H_
