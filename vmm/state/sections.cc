#include "vmm/state/sections.h"

#include <algorithm>
#include <array>

#include <absl/strings/str_format.h>

#include "vmm/state/codec.h"

namespace ramet {
namespace {

constexpr std::array<char, 8> kMagic = {'R', 'A', 'M', 'E', 'T', 'V', 'M', 'S'};
constexpr uint8_t kMandatory = 1;

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxSectionName &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                  c == '-';
         });
}

std::vector<std::byte> encode_section(const Section& section) {
  Encoder out;
  out.number(static_cast<uint8_t>(section.name.size()));
  out.raw(std::as_bytes(std::span(section.name)));
  out.number(section.version);
  out.number(static_cast<uint8_t>(section.mandatory ? kMandatory : 0));
  out.blob(section.bytes);
  std::vector<std::byte> bytes = out.take();
  Encoder tail;
  tail.number(digest(bytes));
  const auto sum = tail.take();
  bytes.insert(bytes.end(), sum.begin(), sum.end());
  return bytes;
}

StatusOr<Section> parse_section(Decoder* in, std::span<const std::byte> file) {
  const size_t start = file.size() - in->remaining();
  Section section;
  const auto name_size = in->bounded<uint8_t>(1, kMaxSectionName, "section name length");
  for (const std::byte byte : in->raw(name_size)) {
    section.name.push_back(static_cast<char>(byte));
  }
  section.version = in->number<uint16_t>();
  section.mandatory = in->bounded<uint8_t>(0, kMandatory, "section flags") == kMandatory;
  const auto bytes = in->blob(kMaxSectionBytes, "section size");
  const size_t end = file.size() - in->remaining();
  const auto sum = in->number<uint64_t>();
  RAMET_RETURN_IF_ERROR(in->status());
  if (!is_name(section.name)) {
    return absl::DataLossError("vmstate: a section's name has other characters than [a-z0-9._-]");
  }
  if (sum != digest(file.subspan(start, end - start))) {
    return absl::DataLossError(
        absl::StrFormat("vmstate: section %s is damaged: digest %#x in the "
                        "file, %#x computed",
                        section.name, sum, digest(file.subspan(start, end - start))));
  }
  section.bytes.assign(bytes.begin(), bytes.end());
  return section;
}

Status check_header(Decoder* in) {
  const auto magic = in->raw(kMagic.size());
  RAMET_RETURN_IF_ERROR(in->status());
  if (!std::ranges::equal(magic, std::as_bytes(std::span(kMagic)))) {
    return absl::DataLossError("vmstate: not a vmstate file (wrong magic)");
  }
  const auto version = in->number<uint16_t>();
  const auto architecture = in->number<uint16_t>();
  RAMET_RETURN_IF_ERROR(in->status());
  if (version != kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "vmstate: format version %d, this library reads %d", version, kFormatVersion));
  }
  if (architecture != kArchX86_64) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "vmstate: made for architecture %d, this host is %d", architecture, kArchX86_64));
  }
  return Status();
}

}  // namespace

std::vector<std::byte> encode_sections(std::span<const Section> sections) {
  Encoder out;
  out.raw(std::as_bytes(std::span(kMagic)));
  out.number(kFormatVersion);
  out.number(kArchX86_64);
  out.number(static_cast<uint32_t>(sections.size()));
  for (const Section& section : sections) {
    out.raw(encode_section(section));
  }
  return out.take();
}

StatusOr<std::vector<Section>> parse_sections(std::span<const std::byte> file) {
  if (file.size() > kMaxStateBytes) {
    return absl::DataLossError(absl::StrFormat("vmstate: %d bytes, more than the limit of %d",
                                               file.size(), kMaxStateBytes));
  }
  Decoder in(file, "vmstate");
  RAMET_RETURN_IF_ERROR(check_header(&in));
  const auto count = in.bounded<uint32_t>(0, kMaxSections, "number of sections");
  std::vector<Section> sections;
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    RAMET_ASSIGN_OR_RETURN(Section section, parse_section(&in, file));
    const bool twice = std::any_of(sections.begin(), sections.end(), [&](const Section& other) {
      return other.name == section.name;
    });
    if (twice) {
      return absl::DataLossError(
          absl::StrFormat("vmstate: section %s is there twice", section.name));
    }
    sections.push_back(std::move(section));
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  return sections;
}

StatusOr<const Section*> find_section(std::span<const Section> sections, std::string_view name,
                                      uint16_t max_version) {
  const auto found = std::find_if(sections.begin(), sections.end(),
                                  [&](const Section& section) { return section.name == name; });
  if (found == sections.end()) {
    return absl::NotFoundError(absl::StrFormat("vmstate: no section %s", std::string(name)));
  }
  if (found->version == 0 || found->version > max_version) {
    return absl::FailedPreconditionError(
        absl::StrFormat("vmstate: section %s has version %d, this library reads 1 to %d",
                        std::string(name), found->version, max_version));
  }
  return &*found;
}

}  // namespace ramet
