#include "examples/cli/names.h"

#include <algorithm>

#include <absl/strings/ascii.h>
#include <absl/strings/str_format.h>

namespace cli {
namespace {

constexpr size_t kLongestName = 64;

std::optional<std::string> non_empty(const Environment& environment, const std::string& name) {
  std::optional<std::string> value = environment(name);
  return value && !value->empty() ? value : std::nullopt;
}

// Absolute and without "." and trailing slashes; ".." stays, since it must follow links.
std::filesystem::path clean(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) {
    return path;
  }
  if (!absolute.has_filename() && absolute.has_relative_path()) {
    absolute = absolute.parent_path();
  }
  return absolute;
}

}  // namespace

absl::Status check_template_name(std::string_view name) {
  const auto legal = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  };
  std::string why;
  if (name.empty()) {
    why = "it is empty";
  } else if (name.size() > kLongestName) {
    why = absl::StrFormat("it has %d characters and may have %d", name.size(), kLongestName);
  } else if (!std::all_of(name.begin(), name.end(), legal)) {
    why = "it may hold letters, digits, dot, underscore and minus only";
  } else if (!absl::ascii_isalnum(static_cast<unsigned char>(name[0]))) {
    why = "it must begin with a letter or digit";
  } else {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("\"%s\" is no template name: %s (a directory is written with a slash, as in "
                      "./NAME)",
                      std::string(name), why));
}

absl::StatusOr<std::filesystem::path> templates_directory(const std::string& flag,
                                                          const Environment& environment) {
  if (!flag.empty()) {
    return clean(flag);
  }
  if (const auto own = non_empty(environment, "RAMET_TEMPLATES")) {
    return clean(*own);
  }
  const std::filesystem::path tail = std::filesystem::path("ramet") / "templates";
  if (const auto data = non_empty(environment, "XDG_DATA_HOME"); data && data->front() == '/') {
    return clean(*data / tail);
  }
  if (const auto home = non_empty(environment, "HOME")) {
    return clean(std::filesystem::path(*home) / ".local" / "share" / tail);
  }
  return absl::FailedPreconditionError(
      "no directory of templates: give one with --dir, or set RAMET_TEMPLATES, XDG_DATA_HOME or "
      "HOME");
}

absl::StatusOr<TemplateRef> resolve_template(const std::string& given, const std::string& dir_flag,
                                             const Environment& environment) {
  if (given.find('/') != std::string::npos) {
    return TemplateRef{.directory = clean(given), .name = given, .by_path = true};
  }
  if (absl::Status status = check_template_name(given); !status.ok()) {
    return status;
  }
  const absl::StatusOr<std::filesystem::path> base = templates_directory(dir_flag, environment);
  if (!base.ok()) {
    return base.status();
  }
  return TemplateRef{.directory = *base / given, .name = given, .by_path = false};
}

absl::Status check_exists(const TemplateRef& where) {
  std::error_code error;
  if (std::filesystem::is_directory(where.directory, error)) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(
      where.by_path
          ? absl::StrFormat("there is no directory %s", where.directory.string())
          : absl::StrFormat("there is no template \"%s\" in %s (`ramet template ls` lists them)",
                            where.name, where.directory.parent_path().string()));
}

}  // namespace cli
