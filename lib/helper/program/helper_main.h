// helper_main: a helper process, or a worker process, from its first instruction to its end.
//
// Thread rule: called once, as the whole of main(), before any thread.
#ifndef RAMET_LIB_HELPER_PROGRAM_HELPER_MAIN_H_
#define RAMET_LIB_HELPER_PROGRAM_HELPER_MAIN_H_

#include <functional>
#include <optional>
#include <string_view>

#include "lib/helper/program/server.h"

namespace ramet::helper {

// For the tests' own helper programs; the one that libramet carries has none.
struct HelperHooks {
  // Answers a request in the server's place; nothing: it is the server's.
  std::function<std::optional<Status>(const Request&, const ServerParts&)> intercept = {};
  bool without_filter = false;  // to see what the rest of the enclosure keeps out by itself
  bool record = false;  // its filters stop nothing, and count the use of each row (Mode::kRecord)
};

// `namespaces` is argv[1] (jail::spawn); `role` argv[2], one of lib/helper/wire/build.h's for a
// worker process, of whose hooks only `intercept` counts. Returns the exit code.
int helper_main(const char* namespaces, std::string_view role, const HelperHooks& hooks = {});

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_HELPER_MAIN_H_
