#include "lib/store/scratch_file.h"

#include <vector>

#include <absl/strings/str_format.h>

#include "devices/block/cow_backend.h"
#include "lib/store/file_io.h"
#include "lib/store/manifest.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unnamed_file.h"
#include "vmm/state/codec.h"
#include "vmm/state/digest.h"

namespace ramet {
namespace {

constexpr uint16_t kVersion = 1;
constexpr uint64_t kStep = 1 << 20;
constexpr size_t kMaxRuns = 250'000;  // 16 bytes each: within kMaxSectionBytes

struct SavedScratch {
  uint64_t size = 0;
  std::vector<block::BlockRun> runs;
  uint64_t digest = 0;
};

Status for_runs(std::span<const block::BlockRun> runs,
                const std::function<Status(uint64_t offset, uint64_t size)>& piece) {
  for (const block::BlockRun& run : runs) {
    RAMET_RETURN_IF_ERROR(
        for_pieces(run.first * block::kBlockBytes, run.count * block::kBlockBytes, kStep, piece));
  }
  return Status();
}

StatusOr<SavedScratch> decode(std::span<const std::byte> bytes) {
  Decoder in(bytes, "scratch");
  SavedScratch saved;
  saved.size = in.bounded<uint64_t>(block::kBlockBytes, block::LayerStack::kMaxDiskBytes, "size");
  saved.digest = in.number<uint64_t>();
  const auto count = in.bounded<uint32_t>(0, kMaxRuns, "number of runs");
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    block::BlockRun run;
    run.first = in.number<uint64_t>();
    run.count = in.number<uint64_t>();
    saved.runs.push_back(run);
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  if (saved.size % block::kBlockBytes != 0) {
    return absl::DataLossError(
        absl::StrFormat("scratch: size %d is no whole number of blocks", saved.size));
  }
  RAMET_RETURN_IF_ERROR(
      as_data_loss(block::check_runs(saved.runs, saved.size / block::kBlockBytes), kScratchName));
  return saved;
}

Status copy_runs(int from, int to, const SavedScratch& saved) {
  std::vector<std::byte> buffer(kStep);
  Digest digest;
  RAMET_RETURN_IF_ERROR(for_runs(saved.runs, [&](uint64_t offset, uint64_t size) {
    const auto piece = std::span(buffer).first(size);
    RAMET_RETURN_IF_ERROR(sys::pread_exactly(from, piece, offset, "read scratch.bin"));
    digest.update(piece);
    return sys::pwrite_all(to, piece, offset, "copy scratch.bin");
  }));
  if (digest.value() != saved.digest) {
    return absl::DataLossError(absl::StrFormat(
        "scratch.bin is damaged: digest %016x saved, %016x found", saved.digest, digest.value()));
  }
  return Status();
}

}  // namespace

StatusOr<Section> save_scratch(const block::LayerStack& scratch, const std::string& directory) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, create_member(directory, kScratchName));
  RAMET_ASSIGN_OR_RETURN(const auto runs, scratch.export_layers(fd.get()));
  if (runs.size() > kMaxRuns) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("the scratch disk is written in %d separate places; a template holds %d",
                        runs.size(), kMaxRuns));
  }
  std::vector<std::byte> buffer(kStep);
  Digest digest;
  RAMET_RETURN_IF_ERROR(for_runs(runs, [&](uint64_t offset, uint64_t size) {
    const auto piece = std::span(buffer).first(size);
    RAMET_RETURN_IF_ERROR(sys::pread_exactly(fd.get(), piece, offset, "read scratch.bin back"));
    digest.update(piece);
    return Status();
  }));
  RAMET_RETURN_IF_ERROR(sys::fsync(fd.get(), "sync scratch.bin"));
  Encoder out;
  out.number(scratch.size_bytes());
  out.number(digest.value());
  out.number(static_cast<uint32_t>(runs.size()));
  for (const block::BlockRun& run : runs) {
    out.number(run.first);
    out.number(run.count);
  }
  return Section{.name = kScratchSection, .version = kVersion, .bytes = out.take()};
}

StatusOr<std::shared_ptr<const block::LayerStack>> load_scratch(
    std::span<const Section> sections, const std::string& directory,
    const std::string& scratch_directory) {
  const auto section = find_section(sections, kScratchSection, kVersion);
  if (absl::IsNotFound(section.status())) {
    return std::shared_ptr<const block::LayerStack>();
  }
  RAMET_RETURN_IF_ERROR(section.status());
  RAMET_ASSIGN_OR_RETURN(const SavedScratch saved, decode((*section)->bytes));
  RAMET_ASSIGN_OR_RETURN(const UniqueFd file, open_member(directory, kScratchName));
  RAMET_ASSIGN_OR_RETURN(const uint64_t size, sys::file_size(file.get(), kScratchName));
  if (size != saved.size) {
    return absl::DataLossError(
        absl::StrFormat("scratch.bin has %d bytes, the scratch disk %d", size, saved.size));
  }
  RAMET_ASSIGN_OR_RETURN(UniqueFd copy, create_unnamed_file(scratch_directory, saved.size));
  RAMET_RETURN_IF_ERROR(copy_runs(file.get(), copy.get(), saved));
  RAMET_ASSIGN_OR_RETURN(const auto empty, block::LayerStack::create(nullptr, saved.size));
  RAMET_ASSIGN_OR_RETURN(
      auto layer, block::DiskFile::adopt(std::move(copy), kScratchName, block::Access::kReadOnly));
  return empty->import_layer(std::move(layer), saved.runs);
}

}  // namespace ramet
