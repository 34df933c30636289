#include "devices/vsock/packet.h"

#include <array>
#include <string>

#include <catch2/catch.hpp>

#include "devices/vsock/byte_ring.h"
#include "devices/vsock/muxer.h"
#include "devices/vsock/state.h"

using namespace ramet;
using namespace ramet::vsock;

TEST_CASE("a header's fields lie where virtio 1.2 5.10.6 puts them, little-endian") {
  PacketHeader header;
  header.src_cid = 0x0807060504030201;
  header.dst_cid = 0x100f0e0d0c0b0a09;
  header.src_port = 0x14131211;
  header.dst_port = 0x18171615;
  header.len = 0x1c1b1a19;
  header.type = 0x1e1d;
  header.op = static_cast<Op>(0x201f);
  header.flags = 0x24232221;
  header.buf_alloc = 0x28272625;
  header.fwd_cnt = 0x2c2b2a29;
  const auto bytes = encode_header(header);
  for (size_t i = 0; i < bytes.size(); ++i) {
    CHECK(std::to_integer<size_t>(bytes[i]) == i + 1);
  }
  CHECK(decode_header(bytes) == header);
}

TEST_CASE("a byte ring keeps the order across its seam and allocates no more than its limit") {
  ByteRing ring(4096);
  CHECK(ring.allocated() == 0);
  std::string in;
  std::string out;
  for (int round = 0; round < 200; ++round) {
    const std::string piece(static_cast<size_t>(37 * round % 1900), static_cast<char>(round));
    const size_t moved = ring.push(std::as_bytes(std::span(piece)));
    in.append(piece, 0, moved);
    std::array<std::byte, 1500> buffer;
    const size_t taken = ring.pull(std::span(buffer).first(static_cast<size_t>(round) * 7));
    out.append(reinterpret_cast<const char*>(buffer.data()), taken);
    REQUIRE(ring.size() == in.size() - out.size());
    REQUIRE(ring.allocated() <= ring.limit());
  }
  std::array<std::byte, 4096> rest;
  out.append(reinterpret_cast<const char*>(rest.data()), ring.pull(rest));
  CHECK(in == out);
  ring.clear();
  CHECK(ring.allocated() == 0);
  CHECK(ring.push(std::array<std::byte, 5000>{}) == 4096);
  CHECK(ring.room() == 0);
}

TEST_CASE("host ports move within their range and come round") {
  CHECK(advance_port(kFirstDynamicPort, 0) == kFirstDynamicPort);
  CHECK(advance_port(0xfffffffe, 1) == kFirstDynamicPort);
  CHECK(advance_port(kFirstDynamicPort, 0xffffffff) >= kFirstDynamicPort);
  CHECK(advance_port(0xfffffffe, 0xffffffff) < 0xffffffff);
}

TEST_CASE("vsock state comes back as it was saved, and other bytes are DataLoss") {
  const VsockState state{true, ResetEvent::kGiven, 7, 70000};
  const auto bytes = encode_vsock_state(state);
  const auto back = decode_vsock_state(bytes);
  REQUIRE(back.ok());
  CHECK(*back == state);
  for (size_t size = 0; size < bytes.size(); ++size) {
    CHECK(decode_vsock_state(std::span(bytes).first(size)).status().code() ==
          absl::StatusCode::kDataLoss);
  }
  for (const size_t at : {0u, 1u, 2u, 4u, 8u}) {
    auto bad = bytes;
    bad[at] = std::byte{0xff};
    if (at == 8) {
      bad[5] = bad[6] = bad[7] = std::byte{0xff};
    }
    CHECK_FALSE(decode_vsock_state(bad).ok());
  }
}
