// A public command as the agent client wants it.
//
// Thread rule: one thread per object.
// Invariant: an ExecRequest keeps alive what its spec points to.
#ifndef RAMET_LIB_API_EXEC_REQUEST_H_
#define RAMET_LIB_API_EXEC_REQUEST_H_

#include <memory>
#include <string>
#include <vector>

#include <ramet/options.h>
#include <ramet/outcome.h>

#include "lib/agent/client.h"
#include "vmm/base/status.h"
#include "vmm/jail/jail.h"

namespace sandbox {

class ExecRequest {
 public:
  // For create().
  ExecRequest() = default;
  // InvalidArgument when the user is malformed. `jail` and `options` outlive the request.
  static absl::StatusOr<std::unique_ptr<ExecRequest>> create(ramet::jail::Jail* jail,
                                                             const std::vector<std::string>& argv,
                                                             const ExecOptions& options);
  // Limits::output_bytes.
  void limit_output(uint64_t bytes) { spec_.max_output_bytes = bytes; }
  const ramet::ExecSpec& spec() const { return spec_; }

 private:
  ramet::ExecSpec spec_;
  std::unique_ptr<ramet::StdinSource> source_;
};

// "" root, "name", "UID", "UID:GID".
absl::StatusOr<ramet::wire::User> parse_user(const std::string& text);

// `max_output_bytes` as it was asked for; 0: no limit.
ExecResult to_public(ramet::ExecOutcome outcome, uint64_t max_output_bytes = 0);

}  // namespace sandbox

#endif  // RAMET_LIB_API_EXEC_REQUEST_H_
