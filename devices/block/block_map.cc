#include "devices/block/block_map.h"

#include <algorithm>

namespace ramet::block {
namespace {

uint64_t chunks_for(uint64_t blocks, uint64_t chunk) { return blocks / chunk + 1; }

void append(std::vector<BlockRun>* runs, uint64_t block) {
  if (!runs->empty() && runs->back().first + runs->back().count == block) {
    ++runs->back().count;
  } else {
    runs->push_back({block, 1});
  }
}

}  // namespace

bool BlockSet::contains(uint64_t block) const {
  if (chunks_.empty() || chunks_[block / kChunkBlocks] == nullptr) {
    return false;
  }
  const uint64_t bit = block % kChunkBlocks;
  return ((*chunks_[block / kChunkBlocks])[bit / 64] >> (bit % 64) & 1) != 0;
}

void BlockSet::add(uint64_t block) {
  if (chunks_.empty()) {
    chunks_.resize(chunks_for(blocks_, kChunkBlocks));
  }
  auto& chunk = chunks_[block / kChunkBlocks];
  if (chunk == nullptr) {
    chunk = std::make_unique<Chunk>();
  }
  const uint64_t bit = block % kChunkBlocks;
  uint64_t& word = (*chunk)[bit / 64];
  const uint64_t mask = uint64_t{1} << (bit % 64);
  count_ += (word & mask) == 0 ? 1 : 0;
  word |= mask;
}

void BlockSet::remove(uint64_t block) {
  if (contains(block)) {
    const uint64_t bit = block % kChunkBlocks;
    (*chunks_[block / kChunkBlocks])[bit / 64] &= ~(uint64_t{1} << (bit % 64));
    --count_;
  }
}

std::vector<BlockRun> BlockSet::runs() const {
  std::vector<BlockRun> result;
  for (uint64_t i = 0; i < chunks_.size(); ++i) {
    for (uint64_t bit = 0; chunks_[i] != nullptr && bit < kChunkBlocks; ++bit) {
      if (contains(i * kChunkBlocks + bit)) {
        append(&result, i * kChunkBlocks + bit);
      }
    }
  }
  return result;
}

uint16_t BlockIndex::layer_of(uint64_t block) const {
  if (chunks_.empty() || chunks_[block / kChunkBlocks] == nullptr) {
    return kNoLayer;
  }
  return (*chunks_[block / kChunkBlocks])[block % kChunkBlocks];
}

BlockIndex BlockIndex::with_layer(uint16_t layer, std::span<const BlockRun> runs) const {
  BlockIndex result = *this;
  if (result.chunks_.empty() && !runs.empty()) {
    result.chunks_.resize(chunks_for(blocks_, kChunkBlocks));
  }
  std::shared_ptr<Chunk> open;  // the copy of chunk `open_at` that is being changed
  uint64_t open_at = 0;
  for (const BlockRun& run : runs) {
    for (uint64_t block = run.first; block < run.first + run.count; ++block) {
      const uint64_t at = block / kChunkBlocks;
      if (open == nullptr || open_at != at) {
        const auto& old = result.chunks_[at];
        open = old != nullptr ? std::make_shared<Chunk>(*old) : std::make_shared<Chunk>();
        if (old == nullptr) {
          open->fill(kNoLayer);
        }
        open_at = at;
        result.chunks_[at] = open;
      }
      (*open)[block % kChunkBlocks] = layer;
    }
  }
  return result;
}

template <typename Wanted>
std::vector<BlockRun> BlockIndex::select(Wanted wanted) const {
  std::vector<BlockRun> result;
  for (uint64_t i = 0; i < chunks_.size(); ++i) {
    for (uint64_t entry = 0; chunks_[i] != nullptr && entry < kChunkBlocks; ++entry) {
      if (wanted((*chunks_[i])[entry])) {
        append(&result, i * kChunkBlocks + entry);
      }
    }
  }
  return result;
}

std::vector<BlockRun> BlockIndex::runs() const {
  return select([](uint16_t layer) { return layer != kNoLayer; });
}

std::vector<BlockRun> BlockIndex::runs_of(uint16_t layer) const {
  return select([layer](uint16_t one) { return one == layer; });
}

}  // namespace ramet::block
