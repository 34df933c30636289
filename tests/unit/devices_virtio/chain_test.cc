#include "devices/virtio/chain.h"

#include <limits>

#include <catch2/catch.hpp>

#include "devices/virtio/abi.h"
#include "tests/support/virtio_driver.h"

using namespace ramet;
using namespace ramet::testing;
using namespace ramet::virtio;

namespace {

constexpr uint64_t kTable = 0x1000;
constexpr uint64_t kIndirectTable = 0x4000;
constexpr uint64_t kBuffers = 0x10000;
constexpr uint16_t kSize = 16;

struct Table {
  std::unique_ptr<GuestMemory> memory = make_guest_memory(64 << 20);
  bool indirect = true;

  void put(uint64_t table, uint16_t index, const Descriptor& descriptor) {
    must(memory->write_object(GuestAddr{table + index * 16u}, descriptor));
  }
  StatusOr<Chain> walk(uint16_t head = 0) {
    return walk_chain({memory.get(), GuestAddr{kTable}, kSize, indirect}, head);
  }
};

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE("a chain is read and written as two streams over its buffers") {
  Table table;
  table.put(kTable, 3, {kBuffers, 5, kDescNext, 7});
  table.put(kTable, 7, {kBuffers + 100, 6, kDescNext, 1});
  table.put(kTable, 1, {kBuffers + 200, 4, kDescNext | kDescWrite, 2});
  table.put(kTable, 2, {kBuffers + 300, 100, kDescWrite, 0});
  must(table.memory->write(GuestAddr{kBuffers}, bytes_of("hello")));
  must(table.memory->write(GuestAddr{kBuffers + 100}, bytes_of(" world")));
  const Chain chain = must(table.walk(3));
  CHECK(chain.head() == 3);
  CHECK(chain.readable_bytes() == 11);
  CHECK(chain.writable_bytes() == 104);
  Reader reader = chain.reader();
  std::string text(8, 0);
  must(reader.read(std::as_writable_bytes(std::span(text))));
  CHECK(text == "hello wo");
  CHECK(reader.remaining() == 3);
  CHECK(reader.read(std::as_writable_bytes(std::span(text))).code() ==
        absl::StatusCode::kOutOfRange);
  CHECK(reader.remaining() == 3);  // nothing was consumed
  Writer writer = chain.writer();
  must(writer.write(bytes_of("abcdefgh")));
  CHECK(must(table.memory->read_object<uint32_t>(GuestAddr{kBuffers + 200})) == 0x64636261);
  CHECK(must(table.memory->read_object<uint32_t>(GuestAddr{kBuffers + 300})) == 0x68676665);
  CHECK_FALSE(writer.write(std::vector<std::byte>(97)).ok());
  Writer part = must(writer.take(90));
  CHECK(writer.remaining() == 6);
  CHECK(part.remaining() == 90);
  CHECK_FALSE(writer.take(7).ok());
  must(part.fill_zero(90));
  CHECK(part.remaining() == 0);
}

TEST_CASE("peek gives what is left without moving, and skip moves over buffer ends") {
  Table table;
  table.put(kTable, 0, {kBuffers, 10, kDescNext, 1});
  table.put(kTable, 1, {kBuffers + 100, 10, 0, 0});
  Reader reader = must(table.walk()).reader();
  reader.skip(4);
  const Slices slices = reader.peek(100);
  REQUIRE(slices.size() == 2);
  CHECK(slices[0] == GuestSlice{{kBuffers + 4}, 6});
  CHECK(slices[1] == GuestSlice{{kBuffers + 100}, 10});
  CHECK(reader.peek(6).size() == 1);
  CHECK(reader.peek(0).empty());
  reader.skip(6);
  CHECK(reader.peek(1)[0] == GuestSlice{{kBuffers + 100}, 1});
  reader.skip(1000);
  CHECK(reader.remaining() == 0);
  CHECK(reader.peek(1).empty());
}

TEST_CASE("empty buffers are passed over wherever they point to") {
  Table table;
  table.put(kTable, 0, {~uint64_t{0}, 0, kDescNext, 1});
  table.put(kTable, 1, {kBuffers, 8, kDescNext, 2});
  table.put(kTable, 2, {~uint64_t{0}, 0, kDescWrite, 0});
  const Chain chain = must(table.walk());
  CHECK(chain.readable().size() == 1);
  CHECK(chain.writable_bytes() == 0);
}

TEST_CASE("the longest legal chain is taken, and one that loops is refused") {
  Table table;
  for (uint16_t i = 0; i < kSize; ++i) {
    const bool last = i + 1 == kSize;
    table.put(kTable, i,
              {kBuffers, 1, last ? uint16_t{0} : kDescNext, static_cast<uint16_t>(i + 1)});
  }
  CHECK(must(table.walk()).readable_bytes() == kSize);
  table.put(kTable, kSize - 1, {kBuffers, 1, kDescNext, 0});
  CHECK(table.walk().status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("an indirect table may end a direct chain") {
  Table table;
  table.put(kTable, 0, {kBuffers, 2, kDescNext, 1});
  table.put(kTable, 1, {kIndirectTable, 32, kDescIndirect | kDescWrite, 0});  // WRITE is ignored
  table.put(kIndirectTable, 0, {kBuffers + 16, 3, kDescNext, 1});
  table.put(kIndirectTable, 1, {kBuffers + 32, 4, kDescWrite, 0});
  const Chain chain = must(table.walk());
  CHECK(chain.readable_bytes() == 5);
  CHECK(chain.writable_bytes() == 4);
}

TEST_CASE("indirect tables that break a rule are refused") {
  Table table;
  table.put(kIndirectTable, 0, {kBuffers, 8, 0, 0});
  const auto refused = [&](const Descriptor& first) {
    table.put(kTable, 0, first);
    return !table.walk().ok();
  };
  CHECK_FALSE(refused({kIndirectTable, 16, kDescIndirect, 0}));
  CHECK(refused({kIndirectTable, 0, kDescIndirect, 0}));
  CHECK(refused({kIndirectTable, 15, kDescIndirect, 0}));
  CHECK(refused({kIndirectTable, 17, kDescIndirect, 0}));
  CHECK(refused({kIndirectTable, 16 * 257, kDescIndirect, 0}));
  CHECK(refused({kIndirectTable, 0xfffffff0, kDescIndirect, 0}));
  CHECK(refused({kIndirectTable, 16, kDescIndirect | kDescNext, 1}));
  CHECK(refused({~uint64_t{0} - 4, 16, kDescIndirect, 0}));
  CHECK(refused({uint64_t{1} << 50, 16, kDescIndirect, 0}));
  table.put(kIndirectTable, 0, {kBuffers, 8, kDescNext, 1});  // its successor is outside the table
  CHECK(refused({kIndirectTable, 16, kDescIndirect, 0}));
  table.put(kIndirectTable, 0, {kIndirectTable, 16, kDescIndirect, 0});
  CHECK(refused({kIndirectTable, 16, kDescIndirect, 0}));
  table.put(kIndirectTable, 0, {kBuffers, 8, 0, 0});
  table.indirect = false;
  CHECK(refused({kIndirectTable, 16, kDescIndirect, 0}));
}

TEST_CASE("chains that break a rule are refused") {
  Table table;
  const auto refused = [&](std::initializer_list<Descriptor> chain) {
    uint16_t index = 0;
    for (const Descriptor& descriptor : chain) {
      table.put(kTable, index++, descriptor);
    }
    return !table.walk().ok();
  };
  CHECK(refused({{kBuffers, 8, kDescWrite | kDescNext, 1}, {kBuffers, 8, 0, 0}}));
  CHECK(refused({{kBuffers, 8, kDescWrite | kDescNext, 1}, {kBuffers, 0, 0, 0}}));
  CHECK(refused({{kBuffers, 8, kDescNext, kSize}}));
  CHECK(refused({{(64 << 20) - 4, 8, 0, 0}}));
  CHECK(refused({{~uint64_t{0} - 3, 8, 0, 0}}));
  CHECK(refused({{0, 0xffffffff, 0, 0}}));
  CHECK(refused({{0, kMaxChainBytes / 2, kDescNext, 1}, {0, kMaxChainBytes / 2 + 1, 0, 0}}));
  CHECK_FALSE(refused({{0, kMaxChainBytes / 2, kDescNext, 1}, {0, kMaxChainBytes / 2, 0, 0}}));
  CHECK_FALSE(table.walk(kSize).ok());
  CHECK_FALSE(table.walk(0xffff).ok());
}

TEST_CASE("direct and indirect descriptors together stay below the limit") {
  Table table;
  table.put(kTable, 0, {kBuffers, 1, kDescNext, 1});
  table.put(kTable, 1, {kIndirectTable, 256 * 16, kDescIndirect, 0});
  for (uint16_t i = 0; i < 256; ++i) {
    const bool last = i == 255;
    table.put(kIndirectTable, i,
              {kBuffers, 1, last ? uint16_t{0} : kDescNext, static_cast<uint16_t>(i + 1)});
  }
  CHECK_FALSE(table.walk().ok());  // 257 in all
  table.put(kTable, 0, {kIndirectTable, 256 * 16, kDescIndirect, 0});
  CHECK(must(table.walk()).readable().size() == 256);
}
