#include "lib/helper/wire/snapshot.h"

#include "devices/block/layer_stack.h"
#include "devices/block/state.h"
#include "lib/helper/wire/pages.h"
#include "vmm/state/codec.h"
#include "vmm/state/sections.h"

namespace ramet::helper {
std::vector<std::byte> encode(const SnapshotResult& result) {
  Encoder out;
  out.blob(encode_sections(to_sections(result.state)));
  out.number(static_cast<uint32_t>(result.layers.size()));
  for (const auto& runs : result.layers) {
    out.blob(block::encode_runs(runs));
  }
  encode_pages(result.pages, &out);
  return out.take();
}

StatusOr<SnapshotResult> decode_snapshot(std::span<const std::byte> bytes,
                                         const SnapshotBounds& bounds) {
  Decoder in(bytes, "snapshot");
  SnapshotResult result;
  const auto state = in.blob(kMaxStateBytes, "state");
  RAMET_RETURN_IF_ERROR(in.status());
  RAMET_ASSIGN_OR_RETURN(const auto sections, parse_sections(state));
  RAMET_ASSIGN_OR_RETURN(result.state, instance_state_from(sections));
  const auto layers = in.bounded<uint32_t>(0, block::LayerStack::kMaxLayers, "layers");
  for (uint32_t layer = 0; layer < layers; ++layer) {
    const auto blob = in.blob(kSnapshotRoom, "block runs");
    RAMET_RETURN_IF_ERROR(in.status());
    RAMET_ASSIGN_OR_RETURN(auto runs, block::decode_runs(blob, bounds.blocks));
    result.layers.push_back(std::move(runs));
  }
  RAMET_ASSIGN_OR_RETURN(result.pages, decode_pages(&in, bounds.pages));
  RAMET_RETURN_IF_ERROR(in.finish());
  return result;
}

}  // namespace ramet::helper
