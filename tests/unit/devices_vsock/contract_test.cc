// The contract of all virtio devices, applied to vsock.
#include <array>
#include <memory>
#include <optional>
#include <string>

#include <catch2/catch.hpp>

#include "devices/vsock/device.h"
#include "tests/support/device_contract.h"
#include "tests/support/virtio_driver.h"

namespace ramet::testing {
namespace {

using vsock::Op;

constexpr uint32_t kHostPort = 1025;

// The work: the guest connects to a listening port, a word goes each way, the host closes.
struct VsockHarness {
  static constexpr uint16_t kBreakableQueue = Vsock::kTxQueue;

  std::unique_ptr<virtio::VirtioDevice> adopt(std::unique_ptr<Vsock> device) {
    host.emplace(device->host());
    must(host->listen(kHostPort));
    return device;
  }
  std::unique_ptr<virtio::VirtioDevice> make() { return adopt(Vsock::create({})); }
  StatusOr<std::unique_ptr<virtio::VirtioDevice>> restore(std::span<const std::byte> bytes) {
    RAMET_ASSIGN_OR_RETURN(auto device, Vsock::create_from_state({}, bytes));
    return adopt(std::move(device));
  }

  void start_work(VirtioDriver* driver) {
    if (driver->queue(Vsock::kEventQueue).avail_index() == 0) {
      const GuestAddr events = driver->allocate(64);
      for (uint64_t i = 0; i < 8; ++i) {
        driver->queue(Vsock::kEventQueue).add({{GuestAddr{events.value + 8 * i}, 4, true}});
      }
    }
    ++guest_port;
    send(driver, Op::kRequest);  // not yet notified: a save may come between
  }

  void finish_work(VirtioDriver* driver) {
    for (const uint32_t queue : {Vsock::kRxQueue, Vsock::kTxQueue, Vsock::kEventQueue}) {
      driver->notify(queue);
    }
    if (const auto event = driver->queue(Vsock::kEventQueue).take_used()) {
      CHECK(event->length == 4);
      driver->queue(Vsock::kEventQueue).add({{driver->allocate(4), 4, true}});
      driver->notify(Vsock::kEventQueue);
    }
    CHECK(receive(driver).op == Op::kResponse);
    auto stream = must(host->accept(kHostPort, 1));
    CHECK(stream->guest_port() == guest_port);
    CHECK(must(stream->write(std::as_bytes(std::span("ping", 4)), 1)) == 4);
    CHECK(receive(driver).len == 4);
    send(driver, Op::kRw, "pong");
    driver->notify(Vsock::kTxQueue);
    std::array<std::byte, 8> word;
    CHECK(must(stream->read(word, 1)) == 4);
    stream->close();
    CHECK(receive(driver).op == Op::kShutdown);
    send(driver, Op::kRst);
    driver->notify(Vsock::kTxQueue);
    CHECK(host->metrics().connections == 0);
  }

  void send(VirtioDriver* driver, Op op, const std::string& payload = "") const {
    while (driver->queue(Vsock::kTxQueue).take_used()) {
    }
    vsock::PacketHeader header;
    header.src_cid = vsock::kGuestCid;
    header.dst_cid = vsock::kHostCid;
    header.src_port = guest_port;
    header.dst_port = kHostPort;
    header.type = vsock::kTypeStream;
    header.op = op;
    header.len = static_cast<uint32_t>(payload.size());
    header.buf_alloc = 4096;
    header.fwd_cnt = op == Op::kRequest ? 0 : 4;
    const GuestAddr page = driver->allocate(kPageSize);
    const GuestAddr behind{page.value + vsock::kHeaderBytes};
    must(driver->memory().write(page, vsock::encode_header(header)));
    must(driver->memory().write(behind, std::as_bytes(std::span(payload))));
    const auto bytes = static_cast<uint32_t>(vsock::kHeaderBytes + payload.size());
    driver->queue(Vsock::kTxQueue).add({{page, bytes, false}});
  }

  // Gives a receive buffer and takes the packet that comes in it.
  static vsock::PacketHeader receive(VirtioDriver* driver) {
    const GuestAddr page = driver->allocate(kPageSize);
    driver->queue(Vsock::kRxQueue).add({{page, kPageSize, true}});
    driver->notify(Vsock::kRxQueue);
    const auto used = driver->queue(Vsock::kRxQueue).take_used();
    REQUIRE(used.has_value());
    std::array<std::byte, vsock::kHeaderBytes> bytes;
    must(driver->memory().read(page, bytes));
    const vsock::PacketHeader header = vsock::decode_header(bytes);
    CHECK(used->length == vsock::kHeaderBytes + header.len);
    return header;
  }

  std::optional<VsockHost> host;
  uint32_t guest_port = 5000;
};

RAMET_VIRTIO_DEVICE_CONTRACT("vsock", VsockHarness)

}  // namespace
}  // namespace ramet::testing
