// The build that a program belongs to: a helper of another one is not talked to.
//
// Thread rule: a constant.
#ifndef RAMET_LIB_HELPER_WIRE_BUILD_H_
#define RAMET_LIB_HELPER_WIRE_BUILD_H_

#include <string_view>

namespace ramet::helper {

// Changes with the version, and by hand with the messages.
inline constexpr std::string_view kBuild = "ramet-helper " RAMET_VERSION " 2";

// A helper program's argv[2]: what it is, and for a worker process how its threads are confined. A
// helper has none.
inline constexpr std::string_view kWorkerEnforce = "worker";
inline constexpr std::string_view kWorkerRequire = "worker-required";  // or it does not start
inline constexpr std::string_view kWorkerLog = "worker-log";
inline constexpr std::string_view kWorkerOff = "worker-off";

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_WIRE_BUILD_H_
