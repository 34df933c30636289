// The build that a program belongs to: a helper of another one is not talked to.
//
// Thread rule: a constant.
#ifndef RAMET_LIB_HELPER_WIRE_BUILD_H_
#define RAMET_LIB_HELPER_WIRE_BUILD_H_

#include <string_view>

namespace ramet::helper {

// Changes with the version, and by hand with the messages.
inline constexpr std::string_view kBuild = "ramet-helper " RAMET_VERSION " 1";

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WIRE_BUILD_H_
