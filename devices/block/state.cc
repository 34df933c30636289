#include "devices/block/state.h"

#include <algorithm>

#include "devices/block/layer_stack.h"
#include "vmm/state/codec.h"

namespace ramet::block {

std::vector<std::byte> encode_state(const BlockState& state) {
  Encoder out;
  out.number(state.capacity_bytes);
  out.number(static_cast<uint8_t>(state.read_only));
  out.raw(state.id);
  return out.take();
}

StatusOr<BlockState> decode_state(std::span<const std::byte> bytes) {
  Decoder in(bytes, "block state");
  BlockState state;
  state.capacity_bytes =
      in.bounded<uint64_t>(kSectorBytes, LayerStack::kMaxDiskBytes, "capacity in bytes");
  state.read_only = in.boolean("read-only");
  const auto id = in.raw(kIdBytes);
  std::copy(id.begin(), id.end(), state.id.begin());
  RAMET_RETURN_IF_ERROR(in.finish());
  if (state.capacity_bytes % kSectorBytes != 0) {
    return absl::DataLossError("block state: a capacity that is not a number of sectors");
  }
  return state;
}

std::vector<std::byte> encode_runs(std::span<const BlockRun> runs) {
  Encoder out;
  for (const BlockRun& run : runs) {
    out.number(run.first);
    out.number(run.count);
  }
  return out.take();
}

StatusOr<std::vector<BlockRun>> decode_runs(std::span<const std::byte> bytes, uint64_t blocks) {
  Decoder in(bytes, "disk layer runs");
  std::vector<BlockRun> runs;
  runs.reserve(bytes.size() / sizeof(BlockRun));
  while (in.ok() && in.remaining() > 0) {
    const auto first = in.number<uint64_t>();
    runs.push_back({first, in.number<uint64_t>()});
  }
  RAMET_RETURN_IF_ERROR(in.finish());
  RAMET_RETURN_IF_ERROR(check_runs(runs, blocks));
  return runs;
}

}  // namespace ramet::block
