// Streams used by host threads while a guest thread works its queues.
#include "devices/vsock/stream.h"

#include <atomic>
#include <chrono>
#include <map>
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

using State = VsockTransfer::State;
constexpr uint32_t kEchoPort = 7;
constexpr uint64_t kSecond = 1'000'000'000;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// A guest that accepts every connection, sends back what it gets within the host's credit, ends
// after the host's end, and resets what was shut down. It stands for the vCPU.
class EchoGuest {
 public:
  EchoGuest() {
    guest_.start();
    thread_ = std::thread([this] { run(); });
  }
  ~EchoGuest() {
    stop_ = true;
    thread_.join();
  }
  VsockHost host() { return guest_.host(); }
  void stop_and_kill() {
    stop_ = true;
    thread_.join();
    thread_ = std::thread([] {});
    guest_.set_device(nullptr);
  }

 private:
  struct Peer {
    std::string unsent;
    uint32_t fwd_cnt = 0;
    uint32_t sent = 0;
    uint32_t host_fwd_cnt = 0;
    uint32_t host_buf_alloc = 0;
    bool end = false;
    bool end_sent = false;
  };

  void send(Op op, uint32_t port, Peer& peer, std::string_view payload = {}, uint32_t flags = 0) {
    guest_.peer_fwd_cnt = peer.fwd_cnt;
    vsock::PacketHeader header = guest_.header(op, kEchoPort, port);
    header.len = static_cast<uint32_t>(payload.size());
    header.flags = flags;
    guest_.send(header, payload);
  }

  void run() {
    while (!stop_) {
      const auto packet = guest_.receive();
      if (!packet) {
        std::this_thread::yield();
        continue;
      }
      handle(*packet);
    }
  }

  void handle(const GuestPacket& packet) {
    const uint32_t port = packet.header.src_port;
    Peer& peer = peers_[port];
    peer.host_fwd_cnt = packet.header.fwd_cnt;
    peer.host_buf_alloc = packet.header.buf_alloc;
    switch (packet.header.op) {
      case Op::kRequest:
        send(Op::kResponse, port, peer);
        break;
      case Op::kRw:
        peer.unsent += packet.payload;
        break;
      case Op::kShutdown:
        peer.end = true;
        if (packet.header.flags == vsock::kShutdownBoth) {
          send(Op::kRst, port, peer);
          peers_.erase(port);
          return;
        }
        break;
      case Op::kCreditRequest:
        send(Op::kCreditUpdate, port, peer);
        break;
      case Op::kRst:
        peers_.erase(port);
        return;
      default:
        break;
    }
    flush(port, peer);
  }

  void flush(uint32_t port, Peer& peer) {
    while (!peer.unsent.empty()) {
      const uint32_t credit = peer.host_buf_alloc - (peer.sent - peer.host_fwd_cnt);
      const size_t bytes = std::min<size_t>({peer.unsent.size(), credit, 5000});
      if (bytes == 0) {
        return;
      }
      peer.fwd_cnt += static_cast<uint32_t>(bytes);  // taken when it is sent back
      send(Op::kRw, port, peer, std::string_view(peer.unsent).substr(0, bytes));
      peer.unsent.erase(0, bytes);
      peer.sent += static_cast<uint32_t>(bytes);
    }
    if (peer.end && !peer.end_sent) {
      peer.end_sent = true;
      send(Op::kShutdown, port, peer, {}, vsock::kShutdownSend);
    }
  }

  VsockGuest guest_;
  std::map<uint32_t, Peer> peers_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// Sends `total` bytes through the echo with try_write, try_read and wait; true when they came back.
bool echo(VsockHost host, size_t total, char seed) {
  const uint64_t deadline = monotonic_ns() + 60 * kSecond;
  auto stream = host.connect(kEchoPort, deadline);
  if (!stream.ok()) {
    return false;
  }
  std::string data(total, seed);
  for (size_t i = 0; i < total; i += 97) {
    data[i] = static_cast<char>(i / 97);
  }
  std::string back;
  size_t written = 0;
  std::vector<std::byte> buffer(30000);
  while (true) {
    const auto ready = (*stream)->wait(written < total, deadline);
    if (!ready.ok()) {
      return false;
    }
    if (ready->writable && written < total) {
      const auto done = (*stream)->try_write(bytes_of(data).subspan(written));
      if (!done.ok()) {
        return false;
      }
      written += done->bytes;
      if (written == total && !(*stream)->shutdown_write().ok()) {
        return false;
      }
    }
    const auto done = (*stream)->try_read(buffer);
    if (!done.ok()) {
      return false;
    }
    if (done->state == State::kEnd) {
      break;
    }
    back.append(reinterpret_cast<const char*>(buffer.data()), done->bytes);
  }
  (*stream)->close();
  return back == data;
}

}  // namespace

TEST_CASE("more bytes than any buffer holds come back in order") {
  EchoGuest guest;
  CHECK(echo(guest.host(), 3 << 20, 'q'));
}

TEST_CASE("many streams at once, from several threads, each get their own bytes") {
  EchoGuest guest;
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 8; ++round) {
        const size_t total = static_cast<size_t>(1 + (i * 8 + round) * 6007);
        good += echo(guest.host(), total, static_cast<char>('a' + i)) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(good == 48);
}

TEST_CASE("streams that are dropped at any moment leave nothing behind") {
  EchoGuest guest;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        auto stream = guest.host().start_connect(kEchoPort);
        if (stream.ok() && round % 3 != 0) {
          (void)(*stream)->write(bytes_of("some words"), monotonic_ns() + kSecond);
        }
        if (stream.ok() && round % 3 == 2) {
          std::array<std::byte, 4> buffer;
          (void)(*stream)->read(buffer, monotonic_ns() + kSecond);
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  const uint64_t deadline = monotonic_ns() + 10 * kSecond;
  while (guest.host().metrics().connections != 0 && monotonic_ns() < deadline) {
    std::this_thread::yield();
  }
  CHECK(guest.host().metrics().connections == 0);
}

TEST_CASE("a read and a wait end at their deadline, and readiness wins over a passed one") {
  EchoGuest guest;
  auto stream = guest.host().connect(kEchoPort, 0);
  REQUIRE(stream.ok());
  std::array<std::byte, 10> buffer;
  const uint64_t start = monotonic_ns();
  CHECK((*stream)->read(buffer, start + kSecond / 50).status().code() ==
        absl::StatusCode::kDeadlineExceeded);
  CHECK(monotonic_ns() - start >= kSecond / 50);
  CHECK((*stream)->wait(false, 1).status().code() == absl::StatusCode::kDeadlineExceeded);
  const auto ready = (*stream)->wait(true, 1);
  REQUIRE(ready.ok());
  CHECK(ready->writable);
  CHECK_FALSE(ready->readable);
}

TEST_CASE("a write waits while the guest takes nothing, until its deadline") {
  VsockGuest guest;  // accepts, and reads nothing
  guest.start();
  auto stream = guest.host().start_connect(kEchoPort);
  REQUIRE(stream.ok());
  guest.send(Op::kResponse, kEchoPort, guest.receive()->header.src_port);
  const std::string data(vsock::kTransmitBufferBytes + guest.peer_buf_alloc, 'x');
  size_t written = 0;
  while (true) {
    const auto done =
        (*stream)->write(bytes_of(data).subspan(written), monotonic_ns() + kSecond / 50);
    if (!done.ok()) {
      CHECK(done.status().code() == absl::StatusCode::kDeadlineExceeded);
      break;
    }
    written += *done;
    while (guest.receive()) {
    }
    REQUIRE(written < data.size() + 1);
    if (written == data.size()) {
      break;
    }
  }
  // The guest's credit and our own buffer, no more.
  CHECK(written == data.size());
  CHECK((*stream)->try_write(bytes_of("x"))->state == State::kWouldBlock);
  CHECK((*stream)->write(bytes_of("x"), monotonic_ns() + kSecond / 50).status().code() ==
        absl::StatusCode::kDeadlineExceeded);
}

TEST_CASE("wake() ends a wait from another thread, and the next one when none runs") {
  EchoGuest guest;
  auto stream = guest.host().connect(kEchoPort, 0);
  REQUIRE(stream.ok());
  std::thread waker([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    (*stream)->wake();
  });
  const auto ready = (*stream)->wait(false, 0);
  waker.join();
  REQUIRE(ready.ok());
  CHECK_FALSE(ready->readable);
  (*stream)->wake();
  CHECK((*stream)->wait(false, 0).ok());
  CHECK((*stream)->wait(false, 1).status().code() == absl::StatusCode::kDeadlineExceeded);
}

TEST_CASE("the machine's death wakes every waiter with its reason, and later calls get it too") {
  EchoGuest guest;
  VsockHost host = guest.host();
  REQUIRE(host.listen(1025).ok());
  auto stream = host.connect(kEchoPort, 0);
  REQUIRE(stream.ok());
  std::array<Status, 3> results;
  std::thread reader([&] {
    std::array<std::byte, 1> byte;
    results[0] = (*stream)->read(byte, 0).status();
  });
  std::thread accepter([&] { results[1] = host.accept(1025, 0).status(); });
  std::thread connecter([&] {
    while (true) {  // until it is told why not
      auto more = host.connect(kEchoPort, 0);
      if (!more.ok()) {
        results[2] = more.status();
        return;
      }
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  host.shutdown_all(absl::CancelledError("killed by the test"));
  host.shutdown_all(absl::InternalError("too late"));
  reader.join();
  accepter.join();
  connecter.join();
  for (const Status& status : results) {
    CHECK(status.code() == absl::StatusCode::kCancelled);
    CHECK(std::string(status.message()).find("killed by the test") != std::string::npos);
  }
  CHECK((*stream)->wait(true, 0).status().code() == absl::StatusCode::kCancelled);
  CHECK((*stream)->write(bytes_of("x"), 0).status().code() == absl::StatusCode::kCancelled);
  CHECK(host.listen(1026).code() == absl::StatusCode::kCancelled);
  CHECK(host.start_connect(1).status().code() == absl::StatusCode::kCancelled);
  CHECK(host.metrics().connections == 0);
}

TEST_CASE(
    "a stream outlives its device: what arrived is read, then it says that the machine is gone") {
  std::unique_ptr<VsockStream> stream;
  std::optional<VsockHost> host;
  {
    VsockGuest guest;
    guest.start();
    host.emplace(guest.host());
    auto made = host->start_connect(kEchoPort);
    REQUIRE(made.ok());
    stream = std::move(*made);
    guest.send(Op::kResponse, kEchoPort, guest.receive()->header.src_port);
    guest.send(Op::kRw, kEchoPort, stream->host_port(), "last words");
  }
  std::array<std::byte, 100> buffer;
  CHECK(stream->wait(false, 0)->readable);
  CHECK(stream->read(buffer, 0).value() == 10);
  CHECK(stream->read(buffer, 0).status().code() == absl::StatusCode::kCancelled);
  CHECK(stream->wait(false, 0).status().code() == absl::StatusCode::kCancelled);
  CHECK(host->start_connect(kEchoPort).status().code() == absl::StatusCode::kCancelled);
  stream->close();
  CHECK(stream->read(buffer, 0).status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("threads may use streams while the device is destroyed") {
  EchoGuest guest;
  VsockHost host = guest.host();
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([host]() mutable {
      while (echo(host, 20000, 'x')) {
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  guest.stop_and_kill();
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(host.metrics().connections == 0);
}
