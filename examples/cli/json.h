// What `--json` prints: one document per command. Names are snake_case; times are nanoseconds and
// sizes bytes, and their names say so.
//
// Thread rule: pure functions.
// Invariant: every document is valid UTF-8 JSON, whatever bytes a guest printed.
#ifndef RAMET_EXAMPLES_CLI_JSON_H_
#define RAMET_EXAMPLES_CLI_JSON_H_

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <ramet/host.h>
#include <ramet/outcome.h>
#include <ramet/template.h>

namespace cli {

using Json = nlohmann::ordered_json;

struct ErrorText {
  std::string code;    // "INVALID_ARGUMENT"
  std::string reason;  // "kvm_missing"; "none"
  std::string message;
  std::string hint;     // what to do about it; empty: nothing more than the message says
  std::string console;  // the guest's last console lines; empty: no guest was involved
  std::optional<sandbox::LimitHit> limit = {};                // with reason "limit_reached"
  std::optional<std::chrono::milliseconds> retry_after = {};  // with reason "host_busy"
};

// {"error": {"code", "reason", "message"}}, with "hint", "console", "limit" and "retry_after_ms"
// where there are some.
Json error_json(const ErrorText& error);
Json host_json(const sandbox::HostReport& report);
Json template_json(const std::string& name, const std::string& path,
                   const sandbox::TemplateInfo& info);
Json run_json(const sandbox::ExecResult& result, const sandbox::Metrics& metrics,
              const std::string& hostname);

// Sets `key` to the text, or `key`_base64 when it is not UTF-8.
void set_bytes(Json& object, const std::string& key, std::string_view bytes);

// The document as text, ended by a newline.
std::string json_text(const Json& document);

std::string_view kvm_kind_name(sandbox::KvmKind kind);
std::string_view finding_level_name(sandbox::Finding::Level level);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_JSON_H_
