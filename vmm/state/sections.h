// The vmstate file: magic, architecture and format version, then named sections, each with its own
// version and digest.
//
// Thread rule: pure functions over bytes.
// Invariant: parse_sections() accepts exactly what encode_sections() writes; its allocations are
// bounded by the input.
//
// Layout, little-endian (what it is for: docs/adr/0005-*.md):
//   8 bytes  magic "RAMETVMS"
//   u16      format version (kFormatVersion)
//   u16      architecture (1 = x86_64)
//   u32      number of sections, at most kMaxSections
//   then each section:
//     u8 length + name ([a-z0-9._-], 1..32), u16 version, u8 flags (bit 0: mandatory), u32 size,
//     bytes u64 XXH3-64 of everything of the section before this field
#ifndef RAMET_VMM_STATE_SECTIONS_H_
#define RAMET_VMM_STATE_SECTIONS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/state/digest.h"

namespace ramet {

inline constexpr uint16_t kFormatVersion = 1;
inline constexpr uint16_t kArchX86_64 = 1;
inline constexpr size_t kMaxSections = 256;
inline constexpr size_t kMaxSectionName = 32;
inline constexpr size_t kMaxSectionBytes = 4 << 20;
inline constexpr size_t kMaxStateBytes = 64 << 20;

struct Section {
  std::string name;
  uint16_t version = 1;
  bool mandatory = true;
  std::vector<std::byte> bytes;

  friend bool operator==(const Section&, const Section&) = default;
};

std::vector<std::byte> encode_sections(std::span<const Section> sections);

// DataLoss for anything but a well-formed file; FailedPrecondition for another architecture or a
// newer format.
StatusOr<std::vector<Section>> parse_sections(std::span<const std::byte> file);

// The section of this name with a version of at most `max_version`. NotFound, or FailedPrecondition
// when it is newer.
StatusOr<const Section*> find_section(std::span<const Section> sections, std::string_view name,
                                      uint16_t max_version);

}  // namespace ramet

#endif  // RAMET_VMM_STATE_SECTIONS_H_
