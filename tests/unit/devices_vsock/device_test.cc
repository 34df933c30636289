// The device with its queues, played upon by a driver.
#include "devices/vsock/device.h"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/unit/devices_vsock/vsock_guest.h"
#include "vmm/base/clock.h"

using namespace ramet;
using ramet::testing::GuestPacket;
using ramet::testing::VsockGuest;
using vsock::Op;

namespace {

constexpr uint32_t kAgentPort = 1024;
constexpr uint64_t kSoon = 20'000'000;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// A connection that the host made and the guest accepted.
struct Pair {
  std::unique_ptr<VsockStream> stream;
  uint32_t host_port = 0;
};

Pair connect(VsockGuest& guest) {
  auto stream = guest.host().start_connect(kAgentPort);
  REQUIRE(stream.ok());
  const auto request = guest.receive();
  REQUIRE(request);
  REQUIRE(request->header.op == Op::kRequest);
  REQUIRE(request->header.dst_port == kAgentPort);
  guest.send(Op::kResponse, kAgentPort, request->header.src_port);
  REQUIRE((*stream)->wait_connected(1).ok());
  return {std::move(*stream), request->header.src_port};
}

std::string read_now(VsockStream& stream) {
  std::string buffer(70000, '\0');
  const auto done = stream.try_read(std::as_writable_bytes(std::span(buffer)));
  REQUIRE(done.ok());
  buffer.resize(done->bytes);
  return buffer;
}

virtio::SavedDevice save(VsockGuest& guest) {
  guest.device().quiesce();
  auto saved = guest.device().save();
  REQUIRE(saved.ok());
  return *saved;
}

// Turns the guest into its own fork.
void become_fork(VsockGuest& guest, VsockOptions options = {}) {
  const virtio::SavedDevice saved = save(guest);
  auto device = guest.fork_device(saved, options);
  REQUIRE(device.ok());
  guest.set_device(std::move(*device));
  REQUIRE(guest.activate(saved.queue_positions).ok());
}

}  // namespace

TEST_CASE("the configuration is the guest's CID, read-only") {
  VsockGuest guest;
  std::array<std::byte, 16> config;
  guest.device().write_config(0, std::array<std::byte, 8>{});
  guest.device().read_config(0, config);
  CHECK(config[0] == std::byte{3});
  for (size_t i = 1; i < config.size(); ++i) {
    CHECK(config[i] == std::byte{0});
  }
  CHECK(guest.device().type() == virtio::DeviceType::kVsock);
  CHECK(guest.device().queue_max_sizes().size() == 3);
}

TEST_CASE("a device without one of its queues is refused") {
  VsockGuest guest;
  virtio::Activation activation;
  activation.queues.resize(3);
  CHECK(guest.device().activate(std::move(activation)).code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a request made before the guest runs waits for its driver, with what was written") {
  VsockGuest guest;
  auto stream = guest.host().start_connect(kAgentPort);
  REQUIRE(stream.ok());
  CHECK((*stream)->write(bytes_of("first words"), 1).value() == 11);
  guest.device().reset();  // as every driver begins
  guest.start();
  const auto request = guest.receive();
  REQUIRE(request);
  CHECK(request->header.op == Op::kRequest);
  CHECK(guest.events().interrupts[Vsock::kRxQueue] > 0);
  CHECK_FALSE(guest.receive());
  guest.send(Op::kResponse, kAgentPort, request->header.src_port);
  const auto data = guest.receive();  // no host thread had to run for this
  REQUIRE(data);
  CHECK(data->payload == "first words");
}

TEST_CASE("bytes go both ways, whatever the sizes of the guest's buffers") {
  VsockGuest guest;
  REQUIRE(guest.activate().ok());
  guest.add_rx_buffers(3, 45);
  guest.add_rx_buffers(3, 1000);
  guest.add_rx_buffers(3, 16000);
  guest.add_event_buffers(8);
  const Pair pair = connect(guest);
  std::string sent;
  std::string received;
  for (int i = 0; i < 40; ++i) {
    const std::string piece(static_cast<size_t>(1 + 331 * i % 9000),
                            static_cast<char>('a' + i % 26));
    CHECK(pair.stream->write(bytes_of(piece), 1).value() == piece.size());
    sent += piece;
    while (auto packet = guest.receive()) {
      received += packet->payload;
      guest.peer_fwd_cnt += packet->header.len;
      guest.send(Op::kCreditUpdate, kAgentPort, pair.host_port);
    }
  }
  CHECK(received == sent);
  const std::string big(64 * 1024, 'g');
  guest.send(Op::kRw, kAgentPort, pair.host_port, big);
  CHECK(read_now(*pair.stream) == big);
}

TEST_CASE("the guest connects to a listening port, and the host accepts") {
  VsockGuest guest;
  guest.start();
  VsockHost host = guest.host();
  CHECK(host.accept(1025, 1).status().code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(host.listen(1025).ok());
  CHECK(host.accept(1025, monotonic_ns() + kSoon).status().code() ==
        absl::StatusCode::kDeadlineExceeded);
  guest.send(Op::kRequest, 4000, 1025);
  const auto response = guest.receive();
  REQUIRE(response);
  CHECK(response->header.op == Op::kResponse);
  CHECK(response->header.buf_alloc == vsock::kReceiveBufferBytes);
  guest.send(Op::kRw, 4000, 1025, "ready");
  auto stream = host.accept(1025, 1);
  REQUIRE(stream.ok());
  CHECK((*stream)->guest_port() == 4000);
  CHECK(read_now(**stream) == "ready");
  CHECK((*stream)->write(bytes_of("go"), 1).value() == 2);
  CHECK(guest.receive()->payload == "go");
}

TEST_CASE("that packets of the host's connections were taken is told with the next packet") {
  VsockGuest guest;
  guest.start();
  const Pair pair = connect(guest);
  const auto& told = guest.events().interrupts;
  const int before = told[Vsock::kTxQueue];
  guest.send(Op::kRw, kAgentPort, pair.host_port, "one");
  guest.send(Op::kRw, kAgentPort, pair.host_port, "two");
  CHECK(told[Vsock::kTxQueue] == before);
  const int packets = told[Vsock::kRxQueue];
  CHECK(pair.stream->write(bytes_of("three"), 1).value() == 5);
  CHECK(told[Vsock::kRxQueue] == packets + 1);
  CHECK(told[Vsock::kTxQueue] == before);  // by the same
  guest.device().quiesce();
  CHECK(told[Vsock::kTxQueue] == before);
}

TEST_CASE("that a quarter of the queue was taken is told without a packet") {
  VsockGuest guest;
  guest.start();
  const Pair pair = connect(guest);
  CHECK(pair.stream->write(bytes_of("x"), 1).value() == 1);
  const std::atomic<int>& told = guest.events().interrupts[Vsock::kTxQueue];
  const int before = told;
  const int quarter = guest.device().queue_max_sizes()[Vsock::kTxQueue] / 4;
  for (int i = 1; i < quarter; ++i) {
    guest.send(Op::kCreditUpdate, kAgentPort, pair.host_port);
  }
  CHECK(told == before);
  guest.send(Op::kCreditUpdate, kAgentPort, pair.host_port);
  CHECK(told == before + 1);
}

TEST_CASE("that a packet of the guest's own connection, or of none, was taken is told at once") {
  VsockGuest guest;
  guest.start();
  REQUIRE(guest.host().listen(1025).ok());
  guest.send(Op::kRequest, 4000, 1025);
  REQUIRE(guest.receive()->header.op == Op::kResponse);
  const std::atomic<int>& told = guest.events().interrupts[Vsock::kTxQueue];
  const int before = told;
  guest.send(Op::kRw, 4000, 1025, "mine");
  CHECK(told == before + 1);
  guest.send(Op::kRst, 4001, 1025);
  CHECK(told == before + 2);
}

TEST_CASE("what was taken is told before a device is saved, for a fork knows nothing of it") {
  VsockGuest guest;
  guest.start();
  const Pair pair = connect(guest);
  const std::atomic<int>& told = guest.events().interrupts[Vsock::kTxQueue];
  guest.send(Op::kRw, kAgentPort, pair.host_port, "one");
  const int before = told;
  guest.device().quiesce();
  CHECK(told == before + 1);
}

TEST_CASE("a refused connection says so, and a deadline ends the wait for an answer") {
  VsockGuest guest;
  guest.start();
  auto refused = guest.host().start_connect(kAgentPort);
  REQUIRE(refused.ok());
  guest.send(Op::kRst, kAgentPort, guest.receive()->header.src_port);
  CHECK((*refused)->wait_connected(0).code() == absl::StatusCode::kUnavailable);

  const uint64_t start = monotonic_ns();
  const auto late = guest.host().connect(kAgentPort, start + kSoon);
  CHECK(late.status().code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(monotonic_ns() - start >= kSoon);
  CHECK(guest.receive()->header.op == Op::kRequest);
  CHECK(guest.receive()->header.op == Op::kRst);
  CHECK(guest.host().metrics().connections == 0);
}

TEST_CASE("truncated headers and lengths beyond the chain break nothing but their connection") {
  VsockGuest guest;
  guest.start();
  const Pair one = connect(guest);
  const Pair two = connect(guest);
  guest.send_raw(std::string(43, '\0'));
  guest.send_raw("x");
  CHECK(guest.host().metrics().bad_buffers == 2);
  vsock::PacketHeader header = guest.header(Op::kRw, kAgentPort, one.host_port);
  header.len = 0xffffffff;
  guest.send(header, "short");
  CHECK(guest.receive()->header.op == Op::kRst);
  guest.send(Op::kRw, kAgentPort, two.host_port, "fine");
  CHECK(read_now(*two.stream) == "fine");
  CHECK(guest.events().resets == 0);
}

TEST_CASE("without receive buffers the guest's packets wait once enough answers are owed") {
  VsockGuest guest;
  REQUIRE(guest.activate().ok());
  for (uint32_t port = 0; port < 60; ++port) {
    guest.queue_packet(guest.header(Op::kRw, port, 1));
  }
  guest.device().notify(Vsock::kTxQueue);
  int taken = 0;
  while (guest.take_used(Vsock::kTxQueue)) {
    ++taken;
  }
  CHECK(taken == static_cast<int>(vsock::kMaxPendingResets));
  CHECK(guest.host().metrics().tx_pauses == 1);
  guest.device().notify(Vsock::kTxQueue);  // insisting does not help
  CHECK_FALSE(guest.take_used(Vsock::kTxQueue));
  guest.add_rx_buffers(100);
  for (int i = 0; i < 60; ++i) {
    REQUIRE(guest.receive()->header.op == Op::kRst);
  }
  CHECK_FALSE(guest.receive());
}

TEST_CASE("replies of connections take no memory while the guest withholds receive buffers") {
  VsockGuest guest;
  REQUIRE(guest.activate().ok());
  guest.add_event_buffers(8);
  REQUIRE(guest.host().listen(1025).ok());
  guest.send(Op::kRequest, 9, 1025);
  guest.add_rx_buffers(1);
  REQUIRE(guest.receive_and_keep()->header.op == Op::kResponse);
  for (int i = 0; i < 10000; ++i) {
    guest.send(Op::kCreditRequest, 9, 1025);
  }
  guest.add_rx_buffers(10);
  CHECK(guest.receive_and_keep()->header.op == Op::kCreditUpdate);
  CHECK_FALSE(guest.receive_and_keep());
}

TEST_CASE("a broken ring makes the device ask for a reset, and after it all is well") {
  VsockGuest guest;
  guest.start();
  const Pair pair = connect(guest);
  guest.ring(Vsock::kTxQueue).set_avail_index(5000);
  guest.device().notify(Vsock::kTxQueue);
  CHECK(guest.events().resets == 1);
  std::array<std::byte, 1> byte;
  CHECK(pair.stream->read(byte, 0).status().code() == absl::StatusCode::kUnavailable);
  guest.device().notify(Vsock::kTxQueue);
  CHECK(guest.events().resets == 1);
  CHECK(guest.device().save().ok());
  guest.device().reset();
  VsockGuest fresh;
  CHECK(fresh.activate().ok());
}

TEST_CASE("receive buffers too small for a packet end in a reset, not in a loop") {
  VsockGuest guest;
  REQUIRE(guest.activate().ok());
  guest.add_event_buffers(8);
  auto stream = guest.host().start_connect(kAgentPort);
  REQUIRE(stream.ok());
  for (int i = 0; i < 300 && guest.events().resets == 0; ++i) {
    guest.add_rx_buffers(1, 44);
    (void)guest.take_used(Vsock::kRxQueue);
  }
  CHECK(guest.host().metrics().bad_buffers > 0);
  guest.add_rx_buffers(1);
  CHECK(guest.events().resets == 0);
  CHECK(guest.receive()->header.op == Op::kRequest);
}

TEST_CASE("a save is legal only when quiesced, and quiesced nothing moves") {
  VsockGuest guest;
  guest.start();
  Pair pair = connect(guest);
  CHECK(guest.device().save().status().code() == absl::StatusCode::kFailedPrecondition);
  guest.device().quiesce();
  CHECK(guest.device().save().ok());
  CHECK(pair.stream->write(bytes_of("later"), 1).value() == 5);
  guest.send(Op::kRw, kAgentPort, pair.host_port, "waiting");
  CHECK_FALSE(guest.receive());
  CHECK(read_now(*pair.stream).empty());
  guest.device().resume();
  CHECK(guest.receive()->payload == "later");
  CHECK(read_now(*pair.stream) == "waiting");
}

TEST_CASE(
    "a fork's guest gets a transport reset before any packet, and packets only once it is "
    "handled") {
  VsockGuest guest;
  guest.start();
  const Pair old = connect(guest);
  become_fork(guest);
  std::array<std::byte, 1> byte;
  CHECK(old.stream->read(byte, 0).status().code() == absl::StatusCode::kCancelled);

  auto stream = guest.host().start_connect(kAgentPort);
  REQUIRE(stream.ok());
  CHECK_FALSE(guest.receive_event());  // not before resume()
  guest.device().resume();
  CHECK(guest.receive_event() == vsock::kEventTransportReset);
  CHECK(guest.events().interrupts[Vsock::kEventQueue] > 0);
  // The guest works on: its stale packets are taken, answers wait.
  guest.send(Op::kRw, kAgentPort, old.host_port, "stale");
  guest.add_rx_buffers(4);
  CHECK_FALSE(guest.receive());
  guest.add_event_buffers(1);  // what virtio_transport_event_work() does last
  std::vector<Op> ops;
  while (auto packet = guest.receive()) {
    ops.push_back(packet->header.op);
    if (packet->header.op == Op::kRequest) {
      CHECK(packet->header.src_port > old.host_port);
    }
  }
  CHECK(ops == std::vector<Op>{Op::kRst, Op::kRequest});
  CHECK(guest.host().metrics().transport_resets == 1);
  CHECK_FALSE(guest.receive_event());
}

TEST_CASE("a fork of a guest without a connection gets packets at once, and no transport reset") {
  VsockGuest guest;
  guest.start();
  SECTION("that never had one") { CHECK(guest.host().metrics().connections_made == 0); }
  SECTION("whose last one it has closed, and been answered") {
    const Pair pair = connect(guest);
    auto header = guest.header(Op::kShutdown, kAgentPort, pair.host_port);
    header.flags = vsock::kShutdownBoth;
    guest.send(header);
    CHECK(guest.receive()->header.op == Op::kRst);
  }
  become_fork(guest);
  auto stream = guest.host().start_connect(kAgentPort);
  guest.device().resume();
  CHECK(guest.receive()->header.op == Op::kRequest);
  CHECK_FALSE(guest.receive_event());
  become_fork(guest);  // whose guest has an answer to give to that
  guest.device().resume();
  CHECK(guest.receive_event() == vsock::kEventTransportReset);
}

TEST_CASE("a fork of a guest that still has to be told of an end gets a transport reset") {
  VsockGuest guest;
  REQUIRE(guest.activate().ok());
  guest.add_event_buffers(2);
  SECTION("by a packet for which it offers no buffer") {
    guest.send(Op::kRw, kAgentPort, 70'000, "stale");
    CHECK_FALSE(guest.receive());
  }
  SECTION("by none, since the host's side ended") {
    guest.host().shutdown_all(absl::CancelledError("the end"));
    CHECK_FALSE(guest.host().start_connect(kAgentPort).ok());
  }
  become_fork(guest);
  guest.device().resume();
  CHECK(guest.receive_event() == vsock::kEventTransportReset);
}

TEST_CASE("a fork whose guest offers no event buffer waits for the first one") {
  VsockGuest guest;
  REQUIRE(guest.activate().ok());
  guest.add_rx_buffers(8);
  const Pair old = connect(guest);
  become_fork(guest);
  auto stream = guest.host().start_connect(kAgentPort);
  guest.device().resume();
  CHECK_FALSE(guest.receive());
  guest.add_event_buffers(2);
  CHECK(guest.receive_event() == vsock::kEventTransportReset);
  CHECK_FALSE(guest.receive());
  guest.add_event_buffers(1);
  CHECK(guest.receive()->header.op == Op::kRequest);
}

TEST_CASE("a fork of a fork that has not handled its reset gets no second one, and still waits") {
  VsockGuest guest;
  guest.start();
  const Pair old = connect(guest);
  become_fork(guest);
  guest.device().resume();
  become_fork(guest);
  auto stream = guest.host().start_connect(kAgentPort);
  guest.device().resume();
  CHECK(guest.receive_event() == vsock::kEventTransportReset);
  CHECK_FALSE(guest.receive_event());
  CHECK_FALSE(guest.receive());
  guest.add_event_buffers(1);
  CHECK(guest.receive()->header.op == Op::kRequest);
}

TEST_CASE("a device that was saved before its driver came needs no transport reset") {
  VsockGuest guest;
  const virtio::SavedDevice saved = save(guest);
  CHECK(saved.queue_positions == std::vector<uint16_t>{0, 0, 0});
  auto device = guest.fork_device(saved, {});
  REQUIRE(device.ok());
  guest.set_device(std::move(*device));
  guest.device().resume();
  guest.start();
  CHECK(connect(guest).stream != nullptr);
  CHECK_FALSE(guest.receive_event());
}

TEST_CASE(
    "a driver that resets a fork's device instead of handling the event gets packets at once") {
  VsockGuest guest;
  guest.start();
  const Pair old = connect(guest);
  become_fork(guest);
  guest.device().resume();
  guest.device().reset();
  VsockGuest fresh;
  fresh.start();
  CHECK(connect(fresh).stream != nullptr);
}

TEST_CASE("a fork's host ports lie behind its template's, moved on by its own offset") {
  VsockGuest guest({.host_port_offset = 100});
  guest.start();
  const uint32_t first = connect(guest).host_port;
  CHECK(first == vsock::kFirstDynamicPort + 100);
  while (guest.receive()) {
  }
  become_fork(guest, {.host_port_offset = 5000});
  guest.device().resume();
  (void)guest.receive_event();
  guest.add_event_buffers(1);
  while (guest.receive()) {
  }
  CHECK(connect(guest).host_port == first + 1 + 5000);
}

TEST_CASE("state that is no state is refused") {
  CHECK(Vsock::create_from_state({}, std::array<std::byte, 3>{}).status().code() ==
        absl::StatusCode::kDataLoss);
}

TEST_CASE("metrics carry what happened") {
  VsockGuest guest;
  guest.start();
  const Pair pair = connect(guest);
  guest.send(Op::kRw, kAgentPort, pair.host_port, "12345");
  uint64_t bytes = 0;
  for (const virtio::Metric& metric : guest.device().metrics()) {
    if (metric.name == "tx_bytes") {
      bytes = metric.value;
    }
  }
  CHECK(bytes == 5);
  CHECK(guest.host().metrics().connections == 1);
}
