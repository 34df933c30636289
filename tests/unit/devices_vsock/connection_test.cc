// The muxer and its connections without a queue: every packet is handed over directly.
#include "devices/vsock/connection.h"

#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch.hpp>

#include "devices/vsock/device.h"
#include "devices/vsock/muxer.h"

using namespace ramet;
using namespace ramet::vsock;

namespace {

using State = VsockTransfer::State;

struct Guest {
  Muxer muxer{kFirstDynamicPort};
  uint32_t buf_alloc = kReceiveBufferBytes;
  uint32_t fwd_cnt = 0;

  PacketHeader header(Op op, PortPair ports) const {
    PacketHeader header;
    header.src_cid = kGuestCid;
    header.dst_cid = kHostCid;
    header.src_port = ports.guest;
    header.dst_port = ports.host;
    header.type = kTypeStream;
    header.op = op;
    header.buf_alloc = buf_alloc;
    header.fwd_cnt = fwd_cnt;
    return header;
  }
  void send(const PacketHeader& header, std::string_view payload = {}) {
    std::string_view rest = payload;
    muxer.receive(header, payload.size(), [&](std::span<std::byte> into) {
      const auto bytes = std::as_bytes(std::span(rest)).first(into.size());
      std::copy(bytes.begin(), bytes.end(), into.begin());
      rest.remove_prefix(into.size());
      return Status();
    });
  }
  void send(Op op, PortPair ports, std::string_view payload = {}) {
    PacketHeader packet = header(op, ports);
    packet.len = static_cast<uint32_t>(payload.size());
    send(packet, payload);
  }
  // All that the muxer has for the guest.
  std::vector<PacketHeader> receive(uint32_t max_payload = 4096) {
    std::vector<PacketHeader> packets;
    while (muxer.has_output()) {
      const OutPacket packet = muxer.next_output(max_payload);
      packets.push_back(packet.header);
      muxer.output_sent(packet);
    }
    return packets;
  }
  std::vector<Op> receive_ops() {
    std::vector<Op> ops;
    for (const PacketHeader& header : receive()) {
      ops.push_back(header.op);
    }
    return ops;
  }
  std::shared_ptr<Connection> open(uint32_t guest_port = 1024) {
    auto connection = muxer.connect(guest_port);
    REQUIRE(connection.ok());
    REQUIRE(receive_ops() == std::vector<Op>{Op::kRequest});
    send(Op::kResponse, (*connection)->ports());
    REQUIRE((*connection)->phase() == Connection::Phase::kOpen);
    return *connection;
  }
  VsockTransfer write(Connection& connection, std::string_view bytes) {
    auto result = connection.try_write(std::as_bytes(std::span(bytes)));
    muxer.settle(&connection);
    REQUIRE(result.ok());
    return *result;
  }
  VsockTransfer read(Connection& connection, size_t bytes) {
    std::vector<std::byte> buffer(bytes);
    auto result = connection.try_read(buffer);
    muxer.settle(&connection);
    REQUIRE(result.ok());
    return *result;
  }
};

using Ops = std::vector<Op>;

absl::StatusCode read_error(Connection& connection) {
  std::array<std::byte, 1> byte;
  return connection.try_read(byte).status().code();
}

}  // namespace

TEST_CASE("a request to a port where nobody listens is answered by RST") {
  Guest guest;
  guest.send(Op::kRequest, {1025, 7});
  const auto packets = guest.receive();
  REQUIRE(packets.size() == 1);
  CHECK(packets[0].op == Op::kRst);
  CHECK(packets[0].src_port == 1025);
  CHECK(packets[0].dst_port == 7);
  CHECK(packets[0].src_cid == kHostCid);
  CHECK(packets[0].dst_cid == kGuestCid);
  CHECK(guest.muxer.metrics().refused == 1);
  CHECK(guest.muxer.metrics().connections == 0);
}

TEST_CASE(
    "a packet of no connection is answered by one RST however often it comes, a RST by none") {
  Guest guest;
  for (int i = 0; i < 5; ++i) {
    guest.send(Op::kRw, {99, 7}, "lost");
  }
  guest.send(Op::kRst, {98, 7});
  CHECK(guest.receive_ops() == Ops{Op::kRst});
}

TEST_CASE("packets of another CID are dropped, of another type answered by RST of that type") {
  Guest guest;
  PacketHeader header = guest.header(Op::kRequest, {1025, 7});
  header.src_cid = 4;
  guest.send(header);
  header = guest.header(Op::kRequest, {1025, 7});
  header.dst_cid = 1;
  guest.send(header);
  CHECK(guest.receive().empty());
  CHECK(guest.muxer.metrics().foreign_cid == 2);
  header = guest.header(Op::kRequest, {1025, 7});
  header.type = 2;
  guest.send(header);
  const auto packets = guest.receive();
  REQUIRE(packets.size() == 1);
  CHECK(packets[0].op == Op::kRst);
  CHECK(packets[0].type == 2);
}

TEST_CASE("answers to unknown packets are bounded: the muxer says when it takes no more") {
  Guest guest;
  uint32_t port = 0;
  while (guest.muxer.can_receive()) {
    guest.send(Op::kRw, {99, port++});
    REQUIRE(port <= kMaxPendingResets);
  }
  CHECK(port == kMaxPendingResets);
  CHECK(guest.receive().size() == kMaxPendingResets);
  CHECK(guest.muxer.can_receive());
}

TEST_CASE("a backlog is bounded, and a reset in it makes room") {
  Guest guest;
  REQUIRE(guest.muxer.listen(1025).ok());
  CHECK(guest.muxer.listen(1025).code() == absl::StatusCode::kAlreadyExists);
  for (uint32_t port = 0; port < kMaxBacklog; ++port) {
    guest.send(Op::kRequest, {1025, port});
  }
  CHECK(guest.receive_ops() == Ops(kMaxBacklog, Op::kResponse));
  guest.send(Op::kRequest, {1025, 500});
  CHECK(guest.receive_ops() == Ops{Op::kRst});
  guest.send(Op::kRst, {1025, 3});
  guest.send(Op::kRequest, {1025, 500});
  CHECK(guest.receive_ops() == Ops{Op::kResponse});
  CHECK(guest.muxer.find_listener(1025)->backlog.size() == kMaxBacklog);
}

TEST_CASE("the host listens on kMaxListeners ports, and not on one more") {
  Guest guest;
  for (uint32_t port = 0; port < kMaxListeners; ++port) {
    REQUIRE(guest.muxer.listen(1025 + port).ok());
  }
  CHECK(guest.muxer.listen(2000).code() == absl::StatusCode::kResourceExhausted);
}

TEST_CASE("a device may have fewer connections, never more") {
  for (const uint32_t asked : {1U, 3U, 5'000U}) {
    const auto device = Vsock::create({.max_connections = asked});
    VsockHost host = device->host();
    CHECK(host.max_connections() == std::min<size_t>(asked, kMaxConnections));
    std::vector<std::unique_ptr<VsockStream>> streams;
    for (size_t i = 0; i < host.max_connections(); ++i) {
      auto stream = host.start_connect(1024);
      REQUIRE(stream.ok());
      streams.push_back(*std::move(stream));
    }
    CHECK(host.start_connect(1024).status().code() == absl::StatusCode::kResourceExhausted);
  }
}

TEST_CASE("the connection limit is an error for the host and a RST for the guest") {
  Guest guest;
  REQUIRE(guest.muxer.listen(1025).ok());
  std::vector<std::shared_ptr<Connection>> connections;
  for (size_t i = 0; i < kMaxConnections; ++i) {
    auto connection = guest.muxer.connect(1024);
    REQUIRE(connection.ok());
    connections.push_back(*connection);
  }
  CHECK(guest.muxer.connect(1024).status().code() == absl::StatusCode::kResourceExhausted);
  (void)guest.receive();
  guest.send(Op::kRequest, {1025, 7});
  CHECK(guest.receive_ops() == Ops{Op::kRst});

  // One that was closed and waits only for the guest's RST gives way.
  guest.send(Op::kResponse, connections[5]->ports());
  connections[5]->close();
  guest.muxer.settle(connections[5].get());
  CHECK(guest.receive_ops() == Ops{Op::kShutdown});
  CHECK(guest.muxer.connect(1024).ok());
}

TEST_CASE("every connection of the host has a port of its own, rising from the first") {
  Guest guest;
  const auto one = guest.open();
  const auto two = guest.open();
  CHECK(one->ports().host == kFirstDynamicPort);
  CHECK(two->ports().host == kFirstDynamicPort + 1);
  REQUIRE(guest.muxer.listen(kFirstDynamicPort + 2).ok());
  CHECK(guest.open()->ports().host == kFirstDynamicPort + 3);
}

TEST_CASE("data stops at the guest's credit, asks once for more, and goes on with it") {
  Guest guest;
  guest.buf_alloc = 10000;
  const auto connection = guest.open();
  const std::string data(25000, 'x');
  CHECK(guest.write(*connection, data).bytes == 25000);
  uint32_t sent = 0;
  int requests = 0;
  for (const PacketHeader& packet : guest.receive()) {
    sent += packet.len;
    requests += packet.op == Op::kCreditRequest ? 1 : 0;
  }
  CHECK(sent == 10000);
  CHECK(requests == 1);
  guest.send(Op::kCreditUpdate, connection->ports());  // nothing new: no packet, no question
  CHECK(guest.receive().empty());
  guest.fwd_cnt = 4000;
  guest.send(Op::kCreditUpdate, connection->ports());
  sent = 0;
  for (const PacketHeader& packet : guest.receive()) {
    sent += packet.len;
  }
  CHECK(sent == 4000);
}

TEST_CASE(
    "who waits is told when there is something to read, or room again to write, and not else") {
  Guest guest;
  guest.buf_alloc = 10000;
  auto connection = guest.muxer.connect(1024);
  REQUIRE(connection.ok());
  int told = 0;
  (*connection)->changed.listener = [&told] { ++told; };
  REQUIRE(guest.receive_ops() == Ops{Op::kRequest});
  CHECK(guest.write(**connection, "request").bytes == 7);
  guest.send(Op::kResponse, (*connection)->ports());
  CHECK(guest.receive_ops() == Ops{Op::kRw});
  guest.fwd_cnt = 7;
  guest.send(Op::kCreditUpdate, (*connection)->ports());
  CHECK(told == 0);
  guest.send(Op::kRw, (*connection)->ports(), "answer");
  CHECK(told == 1);

  const std::string more(vsock::kTransmitBufferBytes, 'x');
  CHECK(guest.write(**connection, more).bytes == more.size());
  CHECK_FALSE((*connection)->writable());
  CHECK(told == 1);
  guest.receive();
  CHECK((*connection)->writable());
  CHECK(told == 2);
  guest.send(Op::kRst, (*connection)->ports());
  CHECK(told == 3);
}

TEST_CASE("credit counts modulo 2^32") {
  Guest guest;
  guest.buf_alloc = 256 * 1024;
  const auto connection = guest.open();
  const std::string piece(200 * 1024, 'w');
  uint64_t total = 0;
  while (total < (uint64_t{1} << 32) + piece.size()) {
    REQUIRE(guest.write(*connection, piece).bytes == piece.size());
    for (const PacketHeader& packet : guest.receive(64 * 1024)) {
      REQUIRE(packet.op == Op::kRw);
      total += packet.len;
    }
    guest.fwd_cnt = static_cast<uint32_t>(total);
    guest.send(Op::kCreditUpdate, connection->ports());
    REQUIRE(connection->phase() == Connection::Phase::kOpen);
  }
  CHECK(total > (uint64_t{1} << 32));
}

TEST_CASE("a guest that claims to have taken what was not sent is reset") {
  Guest guest;
  const auto connection = guest.open();
  CHECK(guest.write(*connection, "12345678").bytes == 8);
  (void)guest.receive();
  guest.fwd_cnt = 9;
  guest.send(Op::kCreditUpdate, connection->ports());
  CHECK(guest.receive_ops() == Ops{Op::kRst});
  CHECK(read_error(*connection) == absl::StatusCode::kUnavailable);
  CHECK(guest.muxer.metrics().credit_violations == 1);
  CHECK(guest.muxer.metrics().connections == 0);
}

TEST_CASE("credit news that arrive in the wrong order do not take credit back") {
  Guest guest;
  guest.buf_alloc = 100;
  const auto connection = guest.open();
  CHECK(guest.write(*connection, std::string(300, 'x')).bytes == 300);
  CHECK(guest.receive().size() == 2);
  guest.fwd_cnt = 100;
  guest.send(Op::kCreditUpdate, connection->ports());
  guest.fwd_cnt = 40;  // read before, sent after
  guest.send(Op::kCreditUpdate, connection->ports());
  const auto packets = guest.receive();
  REQUIRE(!packets.empty());
  CHECK(packets[0].len == 100);
  CHECK(connection->phase() == Connection::Phase::kOpen);
}

TEST_CASE("a receive buffer that shrinks below what is in flight stops data without harm") {
  Guest guest;
  guest.buf_alloc = 1000;
  const auto connection = guest.open();
  CHECK(guest.write(*connection, std::string(1500, 'x')).bytes == 1500);
  CHECK(guest.receive()[0].len == 1000);
  guest.buf_alloc = 10;
  guest.send(Op::kCreditUpdate, connection->ports());
  CHECK(guest.receive().empty());
  guest.fwd_cnt = 1000;
  guest.send(Op::kCreditUpdate, connection->ports());
  CHECK(guest.receive()[0].len == 10);
}

TEST_CASE("data beyond our credit resets the connection; within it, not a byte is lost") {
  Guest guest;
  const auto connection = guest.open();
  const std::string piece(64 * 1024, 'd');
  for (int i = 0; i < 4; ++i) {
    guest.send(Op::kRw, connection->ports(), piece);
  }
  CHECK(connection->phase() == Connection::Phase::kOpen);
  guest.send(Op::kRw, connection->ports(), "x");
  CHECK(guest.receive_ops() == Ops{Op::kRst});
  CHECK(guest.read(*connection, kReceiveBufferBytes).bytes == kReceiveBufferBytes);
  CHECK(read_error(*connection) == absl::StatusCode::kUnavailable);
}

TEST_CASE("the host's reading is told to the guest when a quarter of the buffer is new") {
  Guest guest;
  const auto connection = guest.open();
  for (int i = 0; i < 2; ++i) {
    guest.send(Op::kRw, connection->ports(), std::string(64 * 1024, 'd'));
  }
  CHECK(guest.read(*connection, kCreditUpdateBytes - 1).state == State::kMoved);
  CHECK(guest.receive().empty());
  CHECK(guest.read(*connection, 1).state == State::kMoved);
  const auto packets = guest.receive();
  REQUIRE(packets.size() == 1);
  CHECK(packets[0].op == Op::kCreditUpdate);
  CHECK(packets[0].fwd_cnt == kCreditUpdateBytes);
  CHECK(packets[0].buf_alloc == kReceiveBufferBytes);
  guest.send(Op::kCreditRequest, connection->ports());
  CHECK(guest.receive_ops() == Ops{Op::kCreditUpdate});
}

TEST_CASE("the guest's half-close is an end for the reader while the writer goes on") {
  Guest guest;
  const auto connection = guest.open();
  guest.send(Op::kRw, connection->ports(), "last");
  PacketHeader shutdown = guest.header(Op::kShutdown, connection->ports());
  shutdown.flags = kShutdownSend;
  guest.send(shutdown);
  CHECK(guest.receive().empty());
  CHECK(guest.read(*connection, 100).bytes == 4);
  CHECK(guest.read(*connection, 100).state == State::kEnd);
  CHECK(guest.write(*connection, "still here").bytes == 10);
  CHECK(guest.receive_ops() == Ops{Op::kRw});
  guest.send(Op::kRw, connection->ports(), "more");  // after its own end: a breach
  CHECK(guest.receive_ops() == Ops{Op::kRst});
}

TEST_CASE("a guest that will not receive makes writes fail and reads go on") {
  Guest guest;
  guest.buf_alloc = 2;
  const auto connection = guest.open();
  CHECK(guest.write(*connection, "stuck").bytes == 5);
  PacketHeader shutdown = guest.header(Op::kShutdown, connection->ports());
  shutdown.flags = kShutdownReceive;
  guest.send(shutdown);
  CHECK(guest.receive().empty());  // what was not sent is dropped
  CHECK(connection->try_write(std::array<std::byte, 1>{}).status().code() ==
        absl::StatusCode::kUnavailable);
  CHECK(connection->writable());
  guest.send(Op::kRw, connection->ports(), "news");
  CHECK(guest.read(*connection, 10).bytes == 4);
}

TEST_CASE("a full shutdown of the guest is answered by RST, and what it sent is still read") {
  Guest guest;
  const auto connection = guest.open();
  guest.send(Op::kRw, connection->ports(), "bye");
  PacketHeader shutdown = guest.header(Op::kShutdown, connection->ports());
  shutdown.flags = kShutdownBoth;
  guest.send(shutdown);
  CHECK(guest.receive_ops() == Ops{Op::kRst});
  CHECK(guest.muxer.metrics().connections == 0);
  CHECK(guest.read(*connection, 10).bytes == 3);
  CHECK(guest.read(*connection, 10).state == State::kEnd);
  CHECK(connection->try_write(std::array<std::byte, 1>{}).status().code() ==
        absl::StatusCode::kUnavailable);
}

TEST_CASE("the host's half-close follows what was written before it") {
  Guest guest;
  guest.buf_alloc = 4;
  const auto connection = guest.open();
  CHECK(guest.write(*connection, "123456").bytes == 6);
  CHECK(connection->shutdown_write().ok());
  guest.muxer.settle(connection.get());
  CHECK(connection->try_write(std::array<std::byte, 1>{}).status().code() ==
        absl::StatusCode::kFailedPrecondition);
  CHECK(guest.receive_ops() == Ops{Op::kRw, Op::kCreditRequest});
  guest.fwd_cnt = 4;
  guest.send(Op::kCreditUpdate, connection->ports());
  const auto packets = guest.receive();
  REQUIRE(packets.size() == 2);
  CHECK(packets[0].len == 2);
  CHECK(packets[1].op == Op::kShutdown);
  CHECK(packets[1].flags == kShutdownSend);
  guest.fwd_cnt = 6;
  guest.send(Op::kRw, connection->ports(), "answer");
  CHECK(guest.read(*connection, 10).bytes == 6);
  connection->close();
  guest.muxer.settle(connection.get());
  const auto last = guest.receive();
  REQUIRE(last.size() == 1);
  CHECK(last[0].flags == kShutdownBoth);
  guest.send(Op::kRst, connection->ports());
  CHECK(guest.muxer.metrics().connections == 0);
}

TEST_CASE("a closed connection drops what the guest sends and ends with its RST") {
  Guest guest;
  const auto connection = guest.open();
  connection->close();
  guest.muxer.settle(connection.get());
  CHECK(guest.receive_ops() == Ops{Op::kShutdown});
  guest.send(Op::kRw, connection->ports(), std::string(65536, 'z'));
  CHECK(guest.receive_ops() == Ops{Op::kCreditUpdate});
  CHECK(connection->allocated_bytes() == 0);
  guest.send(Op::kRst, connection->ports());
  CHECK(guest.muxer.metrics().connections == 0);
}

TEST_CASE("a RST ends a connection in every state, and is not answered") {
  Guest guest;
  SECTION("before the answer") {
    auto connection = guest.muxer.connect(1024);
    REQUIRE(connection.ok());
    CHECK(guest.receive_ops() == Ops{Op::kRequest});
    guest.send(Op::kRst, (*connection)->ports());
    CHECK_FALSE((*connection)->was_open());
    CHECK(read_error(**connection) == absl::StatusCode::kUnavailable);
  }
  SECTION("open") {
    const auto connection = guest.open();
    guest.send(Op::kRst, connection->ports());
    CHECK(read_error(*connection) == absl::StatusCode::kUnavailable);
  }
  SECTION("open, and half closed by the guest") {
    const auto connection = guest.open();
    PacketHeader shutdown = guest.header(Op::kShutdown, connection->ports());
    shutdown.flags = kShutdownSend;
    guest.send(shutdown);
    guest.send(Op::kRst, connection->ports());
    CHECK(guest.read(*connection, 1).state == State::kEnd);
  }
  SECTION("while our own RST waits") {
    const auto connection = guest.open();
    connection->drop();
    guest.muxer.settle(connection.get());
    guest.send(Op::kRw, connection->ports(), "ignored");
    guest.send(Op::kRst, connection->ports());
  }
  SECTION("closed") {
    const auto connection = guest.open();
    connection->close();
    guest.muxer.settle(connection.get());
    guest.send(Op::kRst, connection->ports());
  }
  CHECK(guest.receive().empty());
  CHECK(guest.muxer.metrics().connections == 0);
}

TEST_CASE("operations out of turn and unknown ones reset the connection") {
  Guest guest;
  for (const Op op :
       {Op::kInvalid, Op::kRequest, Op::kResponse, static_cast<Op>(8), static_cast<Op>(0xffff)}) {
    const auto connection = guest.open();
    guest.send(op, connection->ports());
    CHECK(guest.receive_ops() == Ops{Op::kRst});
    CHECK(read_error(*connection) == absl::StatusCode::kUnavailable);
  }
  for (const Op op : {Op::kRw, Op::kShutdown, Op::kCreditUpdate, Op::kRequest}) {
    auto connection = guest.muxer.connect(1024);
    REQUIRE(connection.ok());
    (void)guest.receive();
    guest.send(op, (*connection)->ports());
    CHECK(guest.receive_ops() == Ops{Op::kRst});
  }
  CHECK(guest.muxer.metrics().malformed == 9);
  CHECK(guest.muxer.metrics().connections == 0);
}

TEST_CASE("an answer to a request that was not sent is a breach") {
  Guest guest;
  auto connection = guest.muxer.connect(1024);
  REQUIRE(connection.ok());
  guest.send(Op::kResponse, (*connection)->ports());
  CHECK(guest.receive_ops() == Ops{Op::kRst});
  CHECK_FALSE((*connection)->was_open());
}

TEST_CASE("a length beyond the bytes that follow resets the connection") {
  Guest guest;
  const auto connection = guest.open();
  PacketHeader header = guest.header(Op::kRw, connection->ports());
  header.len = 5;
  guest.send(header, "1234");
  CHECK(guest.receive_ops() == Ops{Op::kRst});
  CHECK(connection->unread_bytes() == 0);
}

TEST_CASE("data before our answer to the guest's request is beyond its credit") {
  Guest guest;
  REQUIRE(guest.muxer.listen(1025).ok());
  guest.send(Op::kRequest, {1025, 9});
  guest.send(Op::kRw, {1025, 9}, "early");
  CHECK(guest.receive_ops() == Ops{Op::kRst});
  CHECK(guest.muxer.find_listener(1025)->backlog.empty());
  CHECK(guest.muxer.metrics().credit_violations == 1);
}

TEST_CASE("a dropped connection whose request was never sent leaves no trace") {
  Guest guest;
  auto connection = guest.muxer.connect(1024);
  REQUIRE(connection.ok());
  (*connection)->drop();
  guest.muxer.settle(connection->get());
  CHECK(guest.receive().empty());
  CHECK(guest.muxer.metrics().connections == 0);
}

TEST_CASE("connections take turns packet by packet") {
  Guest guest;
  const auto one = guest.open();
  const auto two = guest.open();
  guest.write(*one, std::string(3000, '1'));
  guest.write(*two, std::string(3000, '2'));
  std::vector<uint32_t> order;
  for (const PacketHeader& packet : guest.receive(1000)) {
    order.push_back(packet.src_port - kFirstDynamicPort);
  }
  CHECK(order == std::vector<uint32_t>{0, 1, 0, 1, 0, 1});
}

TEST_CASE("a reset of the driver ends what it knew of and keeps requests it has not seen") {
  Guest guest;
  const auto open = guest.open();
  auto waiting = guest.muxer.connect(1024);
  REQUIRE(waiting.ok());
  guest.send(Op::kRw, {5, 6});
  guest.muxer.driver_reset();
  CHECK(read_error(*open) == absl::StatusCode::kUnavailable);
  CHECK(guest.receive_ops() == Ops{Op::kRequest});
}
