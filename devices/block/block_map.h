// Which 4 KiB blocks of a disk are where: BlockSet, the blocks of one overlay, and BlockIndex, the
// layer that holds each block of a stack. Both grow by chunks as blocks are added, so an untouched
// disk of any size costs nothing.
//
// Thread rule: BlockSet: one thread at a time. BlockIndex: immutable once shared; with_layer()
// makes a new one that shares every chunk it does not change. Invariant: a block number is below
// the count given at the start.
#ifndef RAMET_DEVICES_BLOCK_BLOCK_MAP_H_
#define RAMET_DEVICES_BLOCK_BLOCK_MAP_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace ramet::block {

inline constexpr uint64_t kBlockBytes = 4096;

// Blocks [first, first + count).
struct BlockRun {
  uint64_t first = 0;
  uint64_t count = 0;

  friend bool operator==(const BlockRun&, const BlockRun&) = default;
};

class BlockSet {
 public:
  explicit BlockSet(uint64_t blocks) : blocks_(blocks) {}

  bool contains(uint64_t block) const;
  void add(uint64_t block);
  void remove(uint64_t block);
  uint64_t count() const { return count_; }
  // Ascending, each as long as can be.
  std::vector<BlockRun> runs() const;

 private:
  static constexpr uint64_t kChunkBlocks = 4096;
  using Chunk = std::array<uint64_t, kChunkBlocks / 64>;

  uint64_t blocks_;
  uint64_t count_ = 0;
  std::vector<std::unique_ptr<Chunk>> chunks_;  // empty until the first block is added
};

class BlockIndex {
 public:
  static constexpr uint16_t kNoLayer = 0xffff;

  explicit BlockIndex(uint64_t blocks) : blocks_(blocks) {}

  // The layer that holds the block, or kNoLayer.
  uint16_t layer_of(uint64_t block) const;
  // This index with the blocks of `runs` moved to `layer`.
  BlockIndex with_layer(uint16_t layer, std::span<const BlockRun> runs) const;
  // The blocks that any layer holds.
  std::vector<BlockRun> runs() const;
  // The blocks that this layer holds.
  std::vector<BlockRun> runs_of(uint16_t layer) const;

 private:
  static constexpr uint64_t kChunkBlocks = 1024;
  using Chunk = std::array<uint16_t, kChunkBlocks>;
  template <typename Wanted>
  std::vector<BlockRun> select(Wanted wanted) const;

  uint64_t blocks_;
  std::vector<std::shared_ptr<const Chunk>> chunks_;  // empty until the first layer
};

}  // namespace ramet::block

#endif  // RAMET_DEVICES_BLOCK_BLOCK_MAP_H_
