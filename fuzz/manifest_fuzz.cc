// The manifest reader. What is accepted keeps its limits, and written again gives itself.
//
// A random change never fits the manifest's own digest, so each input that has one is read twice:
// as it is, and with the digest made right.
#include <cstdint>
#include <string>
#include <string_view>

#include <absl/strings/str_format.h>
#include <nlohmann/json.hpp>

#include "lib/store/manifest.h"
#include "vmm/state/digest.h"

namespace {

using Json = nlohmann::json;

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

// The text with the digest that belongs in it; empty where it is no flat object.
std::string repaired(std::string_view text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (!json.is_object()) {
    return "";
  }
  for (const Json& member : json) {
    if (member.is_structured()) {
      return "";
    }
  }
  json.erase("digest");
  const std::string canonical = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  json["digest"] = absl::StrFormat("%016x", ramet::digest(std::as_bytes(std::span(canonical))));
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

void check(std::string_view text) {
  const auto manifest = ramet::parse_manifest(text);
  if (!manifest.ok()) {
    require(!manifest.status().message().empty());
    return;
  }
  require(text.size() <= ramet::kMaxManifestBytes);
  require(manifest->vcpus <= ramet::x86::kMaxVcpus);
  require(manifest->memory_bytes <= ramet::x86::kMaxMemoryBytes);
  require(manifest->stored_memory_bytes <= manifest->memory_bytes);
  require(manifest->scratch_bytes <= ramet::block::LayerStack::kMaxDiskBytes);
  require(manifest->state_bytes <= ramet::kMaxStateBytes);
  const auto again = ramet::parse_manifest(ramet::format_manifest(*manifest));
  require(again.ok() && *again == *manifest);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check(text);
  check(repaired(text));
  return 0;
}
