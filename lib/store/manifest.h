// Manifest: manifest.json of a template's directory: what people and `template ls` want to know,
// and the digests that tie the other files to it.
//
// Thread rule: plain values and pure functions.
// Invariant: parse_manifest() takes hostile text; it accepts what format_manifest() writes, and
// nothing whose own digest does not fit.
#ifndef RAMET_LIB_STORE_MANIFEST_H_
#define RAMET_LIB_STORE_MANIFEST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/core/template_data.h"
#include "vmm/base/status.h"

namespace ramet {

inline constexpr char kManifestName[] = "manifest.json";
inline constexpr char kStateName[] = "vmstate.bin";
inline constexpr char kMemoryName[] = "memory.bin";
inline constexpr char kScratchName[] = "scratch.bin";
inline constexpr size_t kMaxManifestBytes = 64 * 1024;
inline constexpr uint32_t kManifestVersion = 1;

struct Manifest {
  std::string kernel_release;
  uint64_t created_unix_seconds = 0;
  uint32_t vcpus = 0;
  uint64_t memory_bytes = 0;
  uint64_t stored_memory_bytes = 0;
  uint64_t scratch_bytes = 0;
  RootReference root;
  uint64_t state_bytes = 0;
  uint64_t state_digest = 0;

  friend bool operator==(const Manifest&, const Manifest&) = default;
};

std::string format_manifest(const Manifest& manifest);
StatusOr<Manifest> parse_manifest(std::string_view text);

}  // namespace ramet

#endif  // RAMET_LIB_STORE_MANIFEST_H_
