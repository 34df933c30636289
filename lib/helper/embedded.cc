#include "lib/helper/embedded.h"

// embedded_helper.S
// NOLINTBEGIN(readability-identifier-naming): symbols of the assembler
extern "C" const std::byte ramet_embedded_helper_start[];
extern "C" const std::byte ramet_embedded_helper_end[];
// NOLINTEND(readability-identifier-naming)

namespace ramet::helper {

std::span<const std::byte> helper_program() {
  return {ramet_embedded_helper_start, ramet_embedded_helper_end};
}

}  // namespace ramet::helper
