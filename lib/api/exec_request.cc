#include "lib/api/exec_request.h"

#include <limits>

#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include "lib/api/deadline.h"
#include "lib/api/fd_source.h"
#include "lib/core/template_builder.h"

namespace sandbox {

std::vector<std::string> default_environment() { return ramet::default_environment(); }

namespace {

ramet::OutputSink to_sink(const std::function<void(std::string_view)>& callback) {
  if (!callback) {
    return {};
  }
  return [&callback](std::span<const std::byte> bytes) {
    callback(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    return absl::OkStatus();
  };
}

bool is_number(absl::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos;
}

}  // namespace

absl::StatusOr<ramet::wire::User> parse_user(const std::string& text) {
  ramet::wire::User user;
  if (text.empty()) {
    return user;
  }
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (!is_number(parts[0])) {
    user.kind = ramet::wire::User::Kind::kName;
    user.name = text;
    return user;
  }
  user.kind = ramet::wire::User::Kind::kIds;
  const bool uid_fits = absl::SimpleAtoi(parts[0], &user.uid);
  const bool gid_fits = parts.size() == 1
                            ? absl::SimpleAtoi(parts[0], &user.gid)
                            : is_number(parts[1]) && absl::SimpleAtoi(parts[1], &user.gid);
  if (!uid_fits || !gid_fits) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "user \"%s\" is neither a name nor UID nor UID:GID of 32-bit numbers", text));
  }
  return user;
}

absl::StatusOr<std::unique_ptr<ExecRequest>> ExecRequest::create(
    ramet::jail::Jail* jail, const std::vector<std::string>& argv, const ExecOptions& options) {
  auto request = std::make_unique<ExecRequest>();
  ramet::ExecSpec& spec = request->spec_;
  spec.argv = argv;
  spec.env = options.env ? *options.env : ramet::default_environment();
  spec.cwd = options.cwd;
  RAMET_ASSIGN_OR_RETURN(spec.user, parse_user(options.user));
  spec.stdout_sink = to_sink(options.on_stdout);
  spec.stderr_sink = to_sink(options.on_stderr);
  spec.capture_bytes = options.capture_bytes;
  spec.timeout_ns = nanoseconds_of(options.timeout);
  if (options.stdin_fd >= 0) {
    RAMET_ASSIGN_OR_RETURN(request->source_, FdSource::create(jail, options.stdin_fd));
  } else if (!options.stdin_data.empty()) {
    request->source_ =
        std::make_unique<ramet::SpanSource>(std::as_bytes(std::span(options.stdin_data)));
  }
  spec.stdin_source = request->source_.get();
  return request;
}

ExecResult to_public(ramet::ExecOutcome outcome, uint64_t max_output_bytes) {
  const bool signalled = outcome.kind == ramet::ExecOutcome::Kind::kSignalled;
  std::optional<LimitHit> hit;
  if (outcome.output_limited) {
    hit = {.which = Limit::kOutput, .allowed = max_output_bytes, .used = outcome.output_bytes};
  }
  return {.exit_code = signalled ? 128 + outcome.signal : outcome.exit_code,
          .signal = signalled ? outcome.signal : 0,
          .timed_out = outcome.timed_out,
          .limit_hit = hit,
          .stdout_data = std::move(outcome.stdout_data),
          .stderr_data = std::move(outcome.stderr_data),
          .stdout_truncated = outcome.stdout_truncated,
          .stderr_truncated = outcome.stderr_truncated};
}

}  // namespace sandbox
