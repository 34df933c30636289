#include "lib/store/template_store.h"

#include <absl/strings/str_format.h>

#include "lib/core/root_disk.h"
#include "lib/instance/reasons.h"
#include "lib/store/directory_writer.h"
#include "lib/store/file_io.h"
#include "lib/store/memory_file.h"
#include "lib/store/scratch_file.h"
#include "lib/store/working_set_section.h"

namespace ramet {
namespace {

Status write_files(const TemplateData& data, const std::string& directory) {
  std::vector<Section> sections = to_sections(data.state);
  RAMET_ASSIGN_OR_RETURN(Section memory, save_memory(*data.memory, directory));
  sections.push_back(std::move(memory));
  if (data.disks.scratch != nullptr) {
    RAMET_ASSIGN_OR_RETURN(Section scratch, save_scratch(*data.disks.scratch, directory));
    sections.push_back(std::move(scratch));
  }
  if (!data.working_set.empty()) {
    sections.push_back(to_section(data.working_set));
  }
  const std::vector<std::byte> state = encode_sections(sections);
  RAMET_RETURN_IF_ERROR(write_member(directory, kStateName, state));
  const Manifest manifest = {
      .kernel_release = data.kernel_release,
      .created_unix_seconds = data.created_unix_seconds,
      .vcpus = static_cast<uint32_t>(data.state.machine.vcpus.size()),
      .memory_bytes = data.memory->size(),
      .stored_memory_bytes = data.memory->stored_bytes(),
      .scratch_bytes = data.disks.scratch == nullptr ? 0 : data.disks.scratch->size_bytes(),
      .root = data.root,
      .state_bytes = state.size(),
      .state_digest = digest(state)};
  const std::string text = format_manifest(manifest);
  return write_member(directory, kManifestName, std::as_bytes(std::span(text)));
}

// The regions must be the whole image and nothing else: a region past its end would be a SIGBUS.
Status check_regions(const InstanceState& state, const MemoryImage& memory) {
  uint64_t next = 0;
  for (const MemoryRegion& region : state.machine.regions) {
    if (region.file_offset != next || region.size > memory.size() - next) {
      return absl::DataLossError(absl::StrFormat(
          "vmstate.bin: memory region of %#x bytes at file offset %#x of an image of %#x bytes",
          region.size, region.file_offset, memory.size()));
    }
    next += region.size;
  }
  return next == memory.size()
             ? Status()
             : absl::DataLossError(absl::StrFormat(
                   "vmstate.bin: regions cover %#x of %#x bytes of memory", next, memory.size()));
}

// A section that this library does not know may say what changes the meaning of all others, unless
// it says itself that it need not be understood.
Status check_known(std::span<const Section> sections) {
  for (const Section& section : sections) {
    const std::string& name = section.name;
    const bool known = is_instance_section(name) || name == kMemorySection ||
                       name == kScratchSection || name == kWorkingSetSection;
    if (!known && section.mandatory) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s: section %s is unknown to this library; use the one that saved the template",
          kStateName, name));
    }
  }
  return Status();
}

Status check_against_manifest(const Manifest& manifest, const TemplateData& data) {
  const uint64_t scratch = data.disks.scratch == nullptr ? 0 : data.disks.scratch->size_bytes();
  if (manifest.vcpus != data.state.machine.vcpus.size() ||
      manifest.memory_bytes != data.memory->size() || manifest.scratch_bytes != scratch) {
    return absl::DataLossError(
        absl::StrFormat("%s and %s do not belong together", kManifestName, kStateName));
  }
  return Status();
}

StatusOr<std::shared_ptr<const TemplateData>> load_files(const LoadSpec& spec) {
  RAMET_ASSIGN_OR_RETURN(const Manifest manifest, read_manifest(spec.directory));
  RAMET_ASSIGN_OR_RETURN(const auto state, read_member(spec.directory, kStateName, kMaxStateBytes));
  if (state.size() != manifest.state_bytes || digest(state) != manifest.state_digest) {
    return absl::DataLossError(absl::StrFormat(
        "%s is not the one that %s names: %d bytes with digest %016x found, %d with %016x wanted",
        kStateName, kManifestName, state.size(), digest(state), manifest.state_bytes,
        manifest.state_digest));
  }
  RAMET_ASSIGN_OR_RETURN(const auto sections, parse_sections(state));
  RAMET_RETURN_IF_ERROR(check_known(sections));
  auto data = std::make_shared<TemplateData>();
  RAMET_ASSIGN_OR_RETURN(data->state, instance_state_from(sections));
  RAMET_ASSIGN_OR_RETURN(data->memory, load_memory(sections, spec.directory));
  RAMET_RETURN_IF_ERROR(check_regions(data->state, *data->memory));
  RAMET_ASSIGN_OR_RETURN(data->disks.scratch,
                         load_scratch(sections, spec.directory, spec.scratch_directory));
  RAMET_ASSIGN_OR_RETURN(data->working_set,
                         working_set_from(sections, data->memory->size() / kPageSize));
  RAMET_RETURN_IF_ERROR(check_against_manifest(manifest, *data));
  RAMET_ASSIGN_OR_RETURN(const RootDisk root, reopen_root_disk(manifest.root, spec.rootfs));
  data->disks.root = root.file;
  data->root = root.reference;
  data->kernel_release = manifest.kernel_release;
  data->created_unix_seconds = manifest.created_unix_seconds;
  return std::shared_ptr<const TemplateData>(std::move(data));
}

}  // namespace

Status save_template(const TemplateData& data, const std::string& directory) {
  RAMET_ASSIGN_OR_RETURN(const auto writer, DirectoryWriter::create(directory));
  RAMET_RETURN_IF_ERROR(
      annotate(write_files(data, writer->temporary()), "save template to " + directory));
  return writer->commit();
}

StatusOr<Manifest> read_manifest(const std::string& directory) {
  RAMET_ASSIGN_OR_RETURN(const auto bytes,
                         read_member(directory, kManifestName, kMaxManifestBytes));
  return parse_manifest(
      std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

StatusOr<std::shared_ptr<const TemplateData>> load_template(const LoadSpec& spec) {
  auto data = load_files(spec);
  if (!data.ok()) {
    return with_reason(annotate(data.status(), "template " + spec.directory), reason::kBadTemplate);
  }
  return data;
}

}  // namespace ramet
