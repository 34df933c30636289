// helper_main: a helper process from its first instruction to its end.
//
// Thread rule: called once, as the whole of main(), before any thread.
#ifndef RAMET_LIB_HELPER_PROGRAM_HELPER_MAIN_H_
#define RAMET_LIB_HELPER_PROGRAM_HELPER_MAIN_H_

#include <functional>

namespace ramet::helper {

struct HelperHooks {
  // Tests': runs on the first thread, behind everything, before the first request.
  std::function<void()> enclosed = {};
  bool without_filter = false;  // tests': what the rest of the enclosure keeps out by itself
};

// `namespaces` is argv[1] (jail::spawn). Returns the exit code.
int helper_main(const char* namespaces, const HelperHooks& hooks = {});

}  // namespace ramet::helper

#endif  // RAMET_LIB_HELPER_PROGRAM_HELPER_MAIN_H_
