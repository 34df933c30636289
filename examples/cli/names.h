// Template names and where templates lie.
//
// Thread rule: pure functions; the environment is handed in.
// Invariant: a name that passes is one path component that is neither hidden nor "." nor "..", so a
// name never leads out of the directory of templates.
#ifndef RAMET_EXAMPLES_CLI_NAMES_H_
#define RAMET_EXAMPLES_CLI_NAMES_H_

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace cli {

// Looks a variable up; nothing when it is unset.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// OK for ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$.
absl::Status check_template_name(std::string_view name);

// `flag`, else $RAMET_TEMPLATES, else $XDG_DATA_HOME/ramet/templates, else
// $HOME/.local/share/ramet/templates. Empty variables count as unset, and so does an XDG_DATA_HOME
// that is not absolute (XDG base directory specification). FailedPrecondition when nothing is set.
absl::StatusOr<std::filesystem::path> templates_directory(const std::string& flag,
                                                          const Environment& environment);

// What a command line means by a template: with a slash a directory of its own, else a name.
struct TemplateRef {
  std::filesystem::path directory;  // absolute
  std::string name;                 // for messages: as it was given
  bool by_path = false;
};
absl::StatusOr<TemplateRef> resolve_template(const std::string& given, const std::string& dir_flag,
                                             const Environment& environment);

// NotFound unless there is a directory of that name.
absl::Status check_exists(const TemplateRef& where);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_NAMES_H_
