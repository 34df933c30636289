// scratch.bin: what is loaded is what was saved, or DataLoss.
#include "lib/store/scratch_file.h"

#include <cerrno>

#include "devices/block/cow_backend.h"
#include "lib/store/manifest.h"
#include "tests/unit/lib_store/store_support.h"
#include "vmm/base/fault_plan.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unnamed_file.h"
#include "vmm/state/codec.h"

using namespace ramet;
using namespace ramet::testing;
using block::BlockRun;
using block::kBlockBytes;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kBlocks = 1024;
constexpr uint64_t kSize = kBlocks * kBlockBytes;
using Stack = std::shared_ptr<const block::LayerStack>;

// A stack with one more layer, whose blocks `runs` are filled with `seed`.
Stack with_layer(const Stack& below, const std::vector<BlockRun>& runs, uint8_t seed,
                 const TempDir& folder) {
  auto file = create_unnamed_file(folder.path(), kSize);
  REQUIRE(file.ok());
  const std::vector<std::byte> bytes(kBlockBytes, std::byte{seed});
  for (const BlockRun& run : runs) {
    for (uint64_t at = run.first; at < run.first + run.count; ++at) {
      REQUIRE(sys::pwrite_all(file->get(), bytes, at * kBlockBytes, "layer").ok());
    }
  }
  auto layer = block::DiskFile::adopt(*std::move(file), "layer", block::Access::kReadOnly);
  REQUIRE(layer.ok());
  auto stack = below->with_layer(*std::move(layer), runs);
  REQUIRE(stack.ok());
  return *stack;
}

Stack empty_stack() { return *block::LayerStack::create(nullptr, kSize); }

// Two layers, the upper one over a part of the lower.
Stack sample(const TempDir& folder) {
  const Stack lower = with_layer(empty_stack(), {{0, 3}, {500, 20}}, 1, folder);
  return with_layer(lower, {{2, 2}, {kBlocks - 1, 1}}, 2, folder);
}

std::vector<std::byte> contents(const block::LayerStack& stack) {
  std::vector<std::byte> bytes(kSize);
  for (uint64_t at = 0; at < kBlocks; ++at) {
    const auto into = std::span(bytes).subspan(at * kBlockBytes).first<kBlockBytes>();
    REQUIRE(stack.read_block(at, into).ok());
  }
  return bytes;
}

StatusOr<Stack> load(const Section& from, const TempDir& folder) {
  return load_scratch(std::span(&from, 1), folder.path(), folder.path());
}

Section section(uint64_t size, const std::vector<BlockRun>& runs, uint32_t more = 0) {
  Encoder out;
  out.number(size);
  out.number(uint64_t{0});
  out.number(static_cast<uint32_t>(runs.size() + more));
  for (const BlockRun& run : runs) {
    out.number(run.first);
    out.number(run.count);
  }
  return {.name = kScratchSection, .version = 1, .bytes = out.take()};
}

}  // namespace

TEST_CASE("a scratch disk of several layers comes back as one with the same bytes") {
  TempDir folder;
  const Stack stack = sample(folder);
  const auto saved = save_scratch(*stack, folder.path());
  REQUIRE(saved.ok());
  const auto back = load(*saved, folder);
  REQUIRE(back.ok());
  CHECK((*back)->depth() == 1);
  CHECK((*back)->size_bytes() == kSize);
  CHECK(contents(**back) == contents(*stack));
  CHECK(folder.entries() == 1);  // the copy has no name
  // The copy is private: the file may go.
  fs::resize_file(folder / kScratchName, 0);
  CHECK(contents(**back) == contents(*stack));
}

TEST_CASE("a scratch disk that nobody wrote to comes back, and one that is not there is none") {
  TempDir folder;
  const auto saved = save_scratch(*empty_stack(), folder.path());
  REQUIRE(saved.ok());
  const auto back = load(*saved, folder);
  REQUIRE(back.ok());
  CHECK(contents(**back) == std::vector<std::byte>(kSize));
  const auto none = load_scratch({}, folder.path(), folder.path());
  REQUIRE(none.ok());
  CHECK(*none == nullptr);
}

TEST_CASE("a bit inverted in a block that counts is damage; the rest is not looked at") {
  TempDir folder;
  const Stack stack = sample(folder);
  const auto saved = save_scratch(*stack, folder.path());
  REQUIRE(saved.ok());
  for (const uint64_t block : {uint64_t{0}, uint64_t{3}, uint64_t{519}, kBlocks - 1}) {
    flip_bit(folder / kScratchName, static_cast<std::streamoff>(block * kBlockBytes));
    const auto got = load(*saved, folder);
    CHECK(got.status().code() == absl::StatusCode::kDataLoss);
    CHECK(says(got.status(), "scratch.bin is damaged"));
    flip_bit(folder / kScratchName, static_cast<std::streamoff>(block * kBlockBytes));
  }
  flip_bit(folder / kScratchName, 4 * kBlockBytes);
  const auto got = load(*saved, folder);
  REQUIRE(got.ok());
  CHECK(contents(**got) == contents(*stack));
}

TEST_CASE("a scratch section that is cut, longer or altered in one bit is refused") {
  TempDir folder;
  const auto saved = save_scratch(*sample(folder), folder.path());
  REQUIRE(saved.ok());
  Section altered = *saved;
  for (size_t size = 0; size < saved->bytes.size(); ++size) {
    altered.bytes.assign(saved->bytes.begin(),
                         saved->bytes.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(load(altered, folder).status().code() == absl::StatusCode::kDataLoss);
  }
  altered.bytes = saved->bytes;
  altered.bytes.push_back(std::byte{0});
  CHECK(load(altered, folder).status().code() == absl::StatusCode::kDataLoss);
  for (size_t at = 0; at < saved->bytes.size(); ++at) {
    altered.bytes = saved->bytes;
    altered.bytes[at] ^= std::byte{1};
    INFO("byte " << at);
    CHECK_FALSE(load(altered, folder).ok());
  }
}

TEST_CASE("a scratch file of another size, missing or a link is refused") {
  TempDir folder;
  const auto saved = save_scratch(*sample(folder), folder.path());
  fs::resize_file(folder / kScratchName, kSize - 1);
  CHECK(load(*saved, folder).status().code() == absl::StatusCode::kDataLoss);
  fs::rename(folder / kScratchName, folder / "elsewhere");
  CHECK(says(load(*saved, folder).status(), "scratch.bin is missing"));
  fs::create_symlink("elsewhere", folder / kScratchName);
  CHECK(says(load(*saved, folder).status(), "no regular file"));
}

TEST_CASE("runs that overlap, descend, are empty or leave the disk are DataLoss") {
  TempDir folder;
  write_file(folder / kScratchName, "");
  fs::resize_file(folder / kScratchName, kSize);
  const uint64_t most = ~uint64_t{0};
  const std::vector<std::vector<BlockRun>> hostile = {
      {{0, 0}},    {{kBlocks, 1}},   {{kBlocks - 1, 2}}, {{most, 1}},      {{1, most}},
      {{0, most}}, {{0, 1}, {0, 1}}, {{5, 1}, {0, 1}},   {{0, 10}, {5, 1}}};
  for (const auto& runs : hostile) {
    const auto got = load(section(kSize, runs), folder);
    INFO(got.status());
    CHECK(got.status().code() == absl::StatusCode::kDataLoss);
  }
  CHECK(says(load(section(kSize, {}, 250'001), folder).status(), "number of runs"));
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, kSize + 1, kSize + 512, most}) {
    CHECK(load(section(size, {}), folder).status().code() == absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("whichever system call of saving or loading a scratch disk fails, it is a Status") {
  TempDir layers;
  const Stack stack = sample(layers);
  const size_t files = open_files();
  bool fired = true;
  for (uint64_t n = 1; fired; ++n) {
    REQUIRE(n < 300);
    TempDir folder;
    sys::FaultPlan plan(sys::Call::kAny, n, EIO);
    plan.arm();
    const auto saved = save_scratch(*stack, folder.path());
    const bool done = saved.ok() && load(*saved, folder).ok();
    plan.disarm();
    fired = plan.fired();
    INFO("call " << n);
    CHECK((done || fired));
    CHECK(fs::exists(folder / kScratchName) == (folder.entries() == 1));
  }
  CHECK(open_files() == files);
}
