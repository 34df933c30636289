#include "lib/helper/wire/plan.h"

#include <absl/strings/str_format.h>

#include "lib/helper/wire/pages.h"
#include "vmm/memory/mapping.h"
#include "vmm/state/codec.h"
#include "vmm/state/sections.h"

namespace ramet::helper {
namespace {

using block::Access;
using block::BlockRun;
using block::DiskFile;
using block::LayerStack;

void encode_scratch(const LayerStack& scratch, Encoder* out) {
  out->number(scratch.size_bytes());
  out->number(static_cast<uint8_t>(scratch.base() != nullptr));
  out->number(static_cast<uint32_t>(scratch.depth()));
  for (size_t layer = 0; layer < scratch.depth(); ++layer) {
    const std::vector<BlockRun> runs = scratch.layer_runs(layer);
    out->number(static_cast<uint32_t>(runs.size()));
    for (const BlockRun& run : runs) {
      out->number(run.first);
      out->number(run.count);
    }
  }
}

// Hands the files out in order.
class Files {
 public:
  explicit Files(std::vector<UniqueFd> files) : files_(std::move(files)) {}

  StatusOr<std::shared_ptr<const DiskFile>> next(const char* name) {
    RAMET_ASSIGN_OR_RETURN(UniqueFd file, next_plain());
    return DiskFile::adopt(std::move(file), name, Access::kReadOnly);
  }
  StatusOr<UniqueFd> next_plain() {
    if (used_ == files_.size()) {
      return absl::DataLossError(
          absl::StrFormat("a plan that wants more than the %d files it came with", files_.size()));
    }
    return std::move(files_[used_++]);
  }
  Status finish() const {
    return used_ == files_.size() ? Status()
                                  : absl::DataLossError(absl::StrFormat(
                                        "a plan of %d files came with %d", used_, files_.size()));
  }

 private:
  std::vector<UniqueFd> files_;
  size_t used_ = 0;
};

StatusOr<std::vector<BlockRun>> decode_runs(Decoder* in) {
  const auto count = in->number<uint32_t>();
  // 16 bytes each: no more room than the input justifies.
  if (count > in->remaining() / 16) {
    return absl::DataLossError(
        absl::StrFormat("a plan of %d block runs in %d bytes", count, in->remaining()));
  }
  std::vector<BlockRun> runs(count);
  for (BlockRun& run : runs) {
    run.first = in->number<uint64_t>();
    run.count = in->number<uint64_t>();
  }
  return runs;
}

StatusOr<std::shared_ptr<const LayerStack>> decode_scratch(Decoder* in, Files* files) {
  const auto size = in->number<uint64_t>();
  std::shared_ptr<const DiskFile> base;
  if (in->boolean("a base")) {
    RAMET_ASSIGN_OR_RETURN(base, files->next("scratch base"));
  }
  const auto depth = in->bounded<uint32_t>(0, LayerStack::kMaxLayers, "layers");
  RAMET_RETURN_IF_ERROR(in->status());
  RAMET_ASSIGN_OR_RETURN(auto stack, LayerStack::create(std::move(base), size));
  for (uint32_t layer = 0; layer < depth; ++layer) {
    RAMET_ASSIGN_OR_RETURN(auto file, files->next("scratch layer"));
    RAMET_ASSIGN_OR_RETURN(const auto runs, decode_runs(in));
    RAMET_ASSIGN_OR_RETURN(stack, stack->with_layer(std::move(file), runs));
  }
  return stack;
}

// Where parts lie is GuestMemory's to check.
Status decode_memory(Decoder* in, Files* files, Plan* plan) {
  const auto parts = in->bounded<uint32_t>(0, MemoryView::kMaxParts, "parts of memory");
  RAMET_RETURN_IF_ERROR(in->status());
  for (uint32_t i = 0; i < parts; ++i) {
    MemoryView::Part part;
    part.offset = in->number<uint64_t>();
    part.size = in->number<uint64_t>();
    RAMET_ASSIGN_OR_RETURN(UniqueFd file, files->next_plain());
    part.fd = file.get();
    plan->files.push_back(std::move(file));
    plan->memory.parts.push_back(part);
  }
  return Status();
}

Status decode_working_set(Decoder* in, Plan* plan) {
  uint64_t bytes = 0;
  for (const MemoryRegion& region : plan->state.machine.regions) {
    bytes += region.size;
  }
  RAMET_ASSIGN_OR_RETURN(plan->working_set.written, decode_pages(in, bytes / kPageSize));
  RAMET_ASSIGN_OR_RETURN(plan->working_set.read, decode_pages(in, bytes / kPageSize));
  return Status();
}

}  // namespace

std::vector<int> files_of(const Disks& disks, const MemoryView& memory) {
  std::vector<int> files;
  if (disks.root != nullptr) {
    files.push_back(disks.root->fd());
  }
  if (disks.scratch != nullptr) {
    if (disks.scratch->base() != nullptr) {
      files.push_back(disks.scratch->base()->fd());
    }
    for (size_t layer = 0; layer < disks.scratch->depth(); ++layer) {
      files.push_back(disks.scratch->layer_file(layer).fd());
    }
  }
  for (const MemoryView::Part& part : memory.parts) {
    files.push_back(part.fd);
  }
  return files;
}

std::vector<std::byte> encode_plan(const InstanceState& state, const Disks& disks,
                                   const MemoryView& memory, const WorkingSet& working_set) {
  Encoder out;
  out.blob(encode_sections(to_sections(state)));
  out.number(static_cast<uint8_t>(disks.root != nullptr));
  out.number(static_cast<uint8_t>(disks.scratch != nullptr));
  if (disks.scratch != nullptr) {
    encode_scratch(*disks.scratch, &out);
  }
  out.number(static_cast<uint32_t>(memory.parts.size()));
  for (const MemoryView::Part& part : memory.parts) {
    out.number(part.offset);
    out.number(part.size);
  }
  encode_pages(working_set.written, &out);
  encode_pages(working_set.read, &out);
  return out.take();
}

StatusOr<Plan> decode_plan(std::span<const std::byte> bytes, std::vector<UniqueFd> from) {
  Decoder in(bytes, "plan");
  Files files(std::move(from));
  Plan plan;
  const auto state = in.blob(kMaxStateBytes, "state");
  const bool has_root = in.boolean("a root disk");
  const bool has_scratch = in.boolean("a scratch disk");
  RAMET_RETURN_IF_ERROR(in.status());
  RAMET_ASSIGN_OR_RETURN(const auto sections, parse_sections(state));
  RAMET_ASSIGN_OR_RETURN(plan.state, instance_state_from(sections));
  if (has_root) {
    RAMET_ASSIGN_OR_RETURN(plan.disks.root, files.next("root"));
  }
  if (has_scratch) {
    RAMET_ASSIGN_OR_RETURN(plan.disks.scratch, decode_scratch(&in, &files));
  }
  RAMET_RETURN_IF_ERROR(decode_memory(&in, &files, &plan));
  RAMET_RETURN_IF_ERROR(decode_working_set(&in, &plan));
  RAMET_RETURN_IF_ERROR(in.finish());
  RAMET_RETURN_IF_ERROR(files.finish());
  return plan;
}

}  // namespace ramet::helper
