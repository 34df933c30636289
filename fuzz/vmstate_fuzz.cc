// The vmstate reader: parse_sections, then machine_state_from. What is accepted must encode to the
// same bytes again.
//
// A random change never passes a section's digest, so each input is read twice: as it is, and with
// every digest made right.
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "vmm/machine/machine_state.h"
#include "vmm/state/digest.h"
#include "vmm/state/sections.h"

namespace {

constexpr size_t kHeaderBytes = 16;
constexpr size_t kDigestBytes = 8;

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

// Writes the right digest behind every section that is wholly there (layout: vmm/state/sections.h).
void repair_digests(std::vector<std::byte>* file) {
  size_t at = kHeaderBytes;
  while (at < file->size()) {
    const size_t start = at;
    const size_t size_at = at + 1 + std::to_integer<size_t>((*file)[at]) + 2 + 1;
    uint32_t size = 0;
    if (size_at + sizeof size > file->size()) {
      return;
    }
    std::memcpy(&size, file->data() + size_at, sizeof size);
    const size_t end = size_at + sizeof size + size;
    if (end + kDigestBytes > file->size()) {
      return;
    }
    const uint64_t sum = ramet::digest(std::span(*file).subspan(start, end - start));
    std::memcpy(file->data() + end, &sum, sizeof sum);
    at = end + kDigestBytes;
  }
}

void check_machine(const std::vector<ramet::Section>& sections) {
  const auto state = ramet::machine_state_from(sections);
  if (!state.ok()) {
    require(!state.status().message().empty());
    return;
  }
  require(!state->vcpus.empty() && state->vcpus.size() <= ramet::x86::kMaxVcpus);
  require(!state->regions.empty() && state->tsc_khz != 0);
  const auto encoded = ramet::to_sections(*state);
  const auto again = ramet::machine_state_from(encoded);
  require(again.ok());
  require(ramet::to_sections(*again) == encoded);
}

void check_file(std::span<const std::byte> file) {
  const auto sections = ramet::parse_sections(file);
  if (!sections.ok()) {
    require(!sections.status().message().empty());
    return;
  }
  size_t total = 0;
  for (const ramet::Section& section : *sections) {
    total += section.bytes.size();
    require(ramet::find_section(*sections, section.name, UINT16_MAX).ok() ==
            (section.version != 0));
  }
  require(total <= file.size());
  const auto encoded = ramet::encode_sections(*sections);
  require(encoded.size() == file.size() &&
          std::memcmp(encoded.data(), file.data(), file.size()) == 0);
  check_machine(*sections);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  check_file({bytes, size});
  std::vector<std::byte> repaired(bytes, bytes + size);
  repair_digests(&repaired);
  check_file(repaired);
  return 0;
}
