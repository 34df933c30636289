// A template's working set as a section of its vmstate file. One that a library does not know it
// may do without.
//
// Thread rule: pure functions.
// Invariant: to_section() and working_set_from() are inverses; the latter takes hostile bytes.
#ifndef RAMET_LIB_STORE_WORKING_SET_SECTION_H_
#define RAMET_LIB_STORE_WORKING_SET_SECTION_H_

#include <cstdint>
#include <span>

#include "vmm/memory/working_set.h"
#include "vmm/state/sections.h"

namespace ramet {

inline constexpr char kWorkingSetSection[] = "working-set";

// Ranges beyond what fits into a section are left out, from the end of memory.
Section to_section(const WorkingSet& set);

// Empty where there is no such section, or one of a later version. DataLoss for one that breaks a
// rule of WorkingSet's, or names a page that a memory of `pages` does not have.
StatusOr<WorkingSet> working_set_from(std::span<const Section> sections, uint64_t pages);

}  // namespace ramet

#endif  // RAMET_LIB_STORE_WORKING_SET_SECTION_H_
