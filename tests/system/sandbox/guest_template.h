// The templates that the system tests fork: each is built once per program and shared by its tests.
//
// Thread rule: from one thread.
#ifndef RAMET_TESTS_SYSTEM_SANDBOX_GUEST_TEMPLATE_H_
#define RAMET_TESTS_SYSTEM_SANDBOX_GUEST_TEMPLATE_H_

#include <string>
#include <vector>

#include <absl/status/statusor.h>

#include <ramet/sandbox.h>
#include <ramet/template.h>

namespace ramet::testing {

// Why no Linux guest can run here; empty when it can.
std::string why_no_guest();

// The Python root file system that tests/support/make-rootfs makes.
std::string python_rootfs();

// Options for a small guest with `kernel` ("cloud-6.12") and that root; the console goes nowhere.
sandbox::TemplateOptions small_guest(const std::string& kernel);

// Engine whose scratch files go where this machine can be written.
absl::StatusOr<std::shared_ptr<sandbox::Engine>> test_engine();

// A template of small_guest("cloud-6.12"), built at the first call.
const absl::StatusOr<sandbox::Template>& shared_template();

// In the isolation that the program is made for: tests of sandboxes are built once for each
// (CMakeLists.txt).
sandbox::ForkOptions isolated(sandbox::ForkOptions options = {});

// A fork of it, isolated so.
absl::StatusOr<sandbox::Sandbox> fork_shared(sandbox::ForkOptions options = {});

// exec of `sh -c script`.
absl::StatusOr<sandbox::ExecResult> shell(sandbox::Sandbox& box, const std::string& script);

// Entries of /proc/self/fd, /proc/self/task and lines of /proc/self/maps.
struct ProcessCounts {
  size_t fds = 0;
  size_t threads = 0;
  size_t mappings = 0;
};
ProcessCounts count_process();
// The same once two counts, 20 ms apart, are equal.
ProcessCounts quiet_process();
// Counted again until there are no more descriptors and threads than wanted: a thread that has
// ended, and its listener, go a moment later.
ProcessCounts settled_process(const ProcessCounts& wanted);

}  // namespace ramet::testing

// Ends the test case as skipped where no Linux guest runs.
#define RAMET_NEED_GUEST()                                                                \
  do {                                                                                    \
    if (const std::string no_guest = ramet::testing::why_no_guest(); !no_guest.empty()) { \
      RAMET_SKIP(no_guest);                                                               \
    }                                                                                     \
  } while (false)

// Requires an absl::Status or StatusOr to be OK, showing its message.
#define RAMET_REQUIRE_OK(expression)             \
  do {                                           \
    const auto& ramet_result = (expression);     \
    INFO(ramet::testing::text_of(ramet_result)); \
    REQUIRE(ramet_result.ok());                  \
  } while (false)

namespace ramet::testing {

inline std::string text_of(const absl::Status& status) { return status.ToString(); }
template <typename T>
std::string text_of(const absl::StatusOr<T>& status) {
  return status.status().ToString();
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SYSTEM_SANDBOX_GUEST_TEMPLATE_H_
