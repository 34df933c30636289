#include "lib/store/manifest.h"

#include <cstdlib>
#include <limits>

#include <absl/strings/numbers.h>
#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

#include "vmm/state/digest.h"

namespace ramet {
namespace {

using Json = nlohmann::json;

constexpr char kFormat[] = "ramet-template";
constexpr size_t kMaxText = 4096;

// 64-bit numbers with the top bit set are no numbers to every JSON reader, so digests are text.
std::string to_text(uint64_t digest) { return absl::StrFormat("%016x", digest); }

// Reads members of one object and keeps the first complaint.
class Reader {
 public:
  explicit Reader(const Json& object) : object_(object) {}

  uint64_t number(const char* name, uint64_t limit = std::numeric_limits<uint64_t>::max()) {
    const auto member = object_.find(name);
    if (member == object_.end() || !member->is_number_unsigned()) {
      return complain(name, "a whole number"), 0;
    }
    const auto value = member->get<uint64_t>();
    return value <= limit ? value : (complain(name, "a number within its limit"), 0);
  }
  std::string text(const char* name) {
    const auto member = object_.find(name);
    if (member == object_.end() || !member->is_string() ||
        member->get_ref<const std::string&>().size() > kMaxText) {
      return complain(name, "a text"), "";
    }
    return member->get<std::string>();
  }
  uint64_t digest(const char* name) {
    const std::string value = text(name);
    uint64_t result = 0;
    // SimpleHexAtoi also takes upper case, blanks and "0x".
    if (!absl::SimpleHexAtoi(value, &result) || to_text(result) != value) {
      complain(name, "16 lower-case hexadecimal digits");
    }
    return result;
  }
  void complain(const char* name, const char* wanted) {
    if (status_.ok()) {
      status_ = absl::DataLossError(
          absl::StrFormat("%s: member \"%s\" is not %s", kManifestName, name, wanted));
    }
  }
  const Status& status() const { return status_; }

 private:
  const Json& object_;
  Status status_;
};

Json to_json(const Manifest& manifest) {
  return {{"format", kFormat},
          {"version", kManifestVersion},
          {"kernel_release", manifest.kernel_release},
          {"created_unix_seconds", manifest.created_unix_seconds},
          {"vcpus", manifest.vcpus},
          {"memory_bytes", manifest.memory_bytes},
          {"stored_memory_bytes", manifest.stored_memory_bytes},
          {"scratch_bytes", manifest.scratch_bytes},
          {"rootfs_path", manifest.root.path},
          {"rootfs_bytes", manifest.root.size},
          {"rootfs_digest", to_text(manifest.root.digest)},
          {"state_bytes", manifest.state_bytes},
          {"state_digest", to_text(manifest.state_digest)}};
}

// What a guest or a file system calls things need not be UTF-8, and JSON is.
std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

uint64_t self_digest(const Json& json) {
  const std::string canonical = dump(json, -1);
  return digest(std::as_bytes(std::span(canonical)));
}

// A manifest is flat. Lists within lists would also make dump() recurse as deep as the file says.
Status check_flat(const Json& json) {
  if (!json.is_object()) {
    return absl::DataLossError(absl::StrFormat("%s: no JSON object", kManifestName));
  }
  for (const Json& member : json) {
    if (member.is_structured()) {
      return absl::DataLossError(
          absl::StrFormat("%s: a member is a list or an object", kManifestName));
    }
  }
  return Status();
}

Status check_header(const Json& json) {
  Reader in(json);
  const std::string format = in.text("format");
  const uint64_t version = in.number("version");
  RAMET_RETURN_IF_ERROR(in.status());
  if (format != kFormat) {
    return absl::DataLossError(
        absl::StrFormat("%s: not the manifest of a template", kManifestName));
  }
  if (version != kManifestVersion) {
    return absl::FailedPreconditionError(absl::StrFormat("%s: version %d, this library reads %d",
                                                         kManifestName, version, kManifestVersion));
  }
  return Status();
}

}  // namespace

std::string format_manifest(const Manifest& manifest) {
  Json json = to_json(manifest);
  json["digest"] = to_text(self_digest(json));
  return dump(json, 2) + "\n";
}

StatusOr<Manifest> parse_manifest(std::string_view text) {
  if (text.size() > kMaxManifestBytes) {
    return absl::DataLossError(absl::StrFormat("%s: %d bytes, more than the limit of %d",
                                               kManifestName, text.size(), kMaxManifestBytes));
  }
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  RAMET_RETURN_IF_ERROR(check_flat(json));
  RAMET_RETURN_IF_ERROR(check_header(json));
  Reader in(json);
  Manifest manifest;
  manifest.kernel_release = in.text("kernel_release");
  manifest.created_unix_seconds = in.number("created_unix_seconds");
  manifest.vcpus = static_cast<uint32_t>(in.number("vcpus", x86::kMaxVcpus));
  manifest.memory_bytes = in.number("memory_bytes", x86::kMaxMemoryBytes);
  manifest.stored_memory_bytes = in.number("stored_memory_bytes", manifest.memory_bytes);
  manifest.scratch_bytes = in.number("scratch_bytes", block::LayerStack::kMaxDiskBytes);
  manifest.root.path = in.text("rootfs_path");
  manifest.root.size = in.number("rootfs_bytes");
  manifest.root.digest = in.digest("rootfs_digest");
  manifest.state_bytes = in.number("state_bytes", kMaxStateBytes);
  manifest.state_digest = in.digest("state_digest");
  const uint64_t written = in.digest("digest");
  RAMET_RETURN_IF_ERROR(in.status());
  json.erase("digest");
  if (written != self_digest(json)) {
    return absl::DataLossError(absl::StrFormat("%s was altered: digest %016x in it, %016x computed",
                                               kManifestName, written, self_digest(json)));
  }
  return manifest;
}

}  // namespace ramet
