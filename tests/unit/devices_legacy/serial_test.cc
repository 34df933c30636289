#include "devices/legacy/serial.h"

#include <string>

#include <catch2/catch.hpp>

#include "tests/support/virtio_driver.h"

using namespace ramet;
using ramet::testing::CountingIrq;
using ramet::testing::must;

namespace {

// PC16550D register offsets and bits, written down again: the test must not share a mistake.
constexpr uint64_t kData = 0, kIer = 1, kIir = 2, kFcr = 2, kLcr = 3, kMcr = 4, kLsr = 5, kMsr = 6,
                   kScr = 7;

struct Line {
  CountingIrq irq;
  std::string sent;
  std::unique_ptr<Serial> serial =
      std::make_unique<Serial>(&irq, [this](std::byte b) { sent += static_cast<char>(b); });

  uint8_t in(uint64_t port) {
    std::byte value{};
    serial->bus_read(port, {&value, 1});
    return std::to_integer<uint8_t>(value);
  }
  void out(uint64_t port, uint8_t value) {
    const std::byte byte{value};
    serial->bus_write(port, {&byte, 1});
  }
  size_t receive(const std::string& text) {
    return serial->receive(std::as_bytes(std::span(text)));
  }
  // The UART becomes another one made from the bytes of its state; the old line's edges are lost.
  void save_and_restore() {
    const auto state = must(decode_serial_state(encode_state(serial->save())));
    CHECK(state == serial->save());
    serial = must(Serial::create_from_state(
        &irq, [this](std::byte b) { sent += static_cast<char>(b); }, state));
    CHECK(serial->save() == state);
    serial->resume();
  }
};

}  // namespace

TEST_CASE("what the guest writes reaches the sink at once, and the transmitter is always empty") {
  Line line;
  for (const char c : std::string("boot\n")) {
    CHECK((line.in(kLsr)&0x60) == 0x60);
    line.out(kData, static_cast<uint8_t>(c));
  }
  CHECK(line.sent == "boot\n");
  CHECK(line.irq.count() == 0);
}

TEST_CASE("enabling the transmit interrupt raises it, and reading IIR clears it") {
  Line line;
  line.out(kIer, 2);
  CHECK(line.irq.count() == 1);
  CHECK(line.in(kIir) == 0x02);
  CHECK(line.in(kIir) == 0x01);
  line.out(kData, 'a');
  CHECK(line.irq.count() == 2);
  line.out(kData, 'b');  // INTR is still high: no second edge
  CHECK(line.irq.count() == 2);
  CHECK(line.in(kIir) == 0x02);
  line.out(kData, 'c');
  CHECK(line.irq.count() == 3);
}

TEST_CASE("a UART saved while its transmit interrupt is pending goes on after the restore") {
  Line line;
  line.out(kIer, 2);
  line.in(kIir);
  line.out(kData, 'x');  // the edge for "empty again" is lost with the old machine
  const uint64_t before = line.irq.count();
  line.save_and_restore();
  CHECK(line.irq.count() == before + 1);
  CHECK(line.in(kIir) == 0x02);
  line.out(kData, 'y');
  CHECK(line.irq.count() == before + 2);
  CHECK(line.sent == "xy");
}

TEST_CASE("a UART saved with nothing pending raises nothing when restored") {
  Line line;
  line.out(kIer, 2);
  line.in(kIir);
  const uint64_t before = line.irq.count();
  line.save_and_restore();
  CHECK(line.irq.count() == before);
  line.out(kData, 'z');
  CHECK(line.irq.count() == before + 1);
}

TEST_CASE("received bytes come in order, with one edge until the guest has taken them all") {
  Line line;
  line.out(kIer, 1);
  CHECK(line.receive("ls") == 2);
  CHECK(line.irq.count() == 1);
  CHECK(line.in(kIir) == 0x04);
  CHECK((line.in(kLsr)&1) == 1);
  CHECK(line.in(kData) == 'l');
  line.save_and_restore();
  CHECK(line.in(kData) == 's');
  CHECK((line.in(kLsr)&1) == 0);
  CHECK(line.in(kIir) == 0x01);
  CHECK(line.in(kData) == 0);
}

TEST_CASE("bytes beyond the receive buffer are dropped, counted, and reported as an overrun") {
  Line line;
  line.out(kIer, 4);
  CHECK(line.receive(std::string(300, 'x')) == Serial::kReceiveBytes);
  CHECK(line.serial->dropped_bytes() == 300 - Serial::kReceiveBytes);
  CHECK(line.in(kIir) == 0x06);
  CHECK((line.in(kLsr)&2) == 2);
  CHECK((line.in(kLsr)&2) == 0);
  CHECK(line.in(kIir) == 0x01);
  line.out(kFcr, 0x03);  // enable and clear
  CHECK((line.in(kLsr)&1) == 0);
  CHECK(line.in(kIir) == 0xc1);
}

TEST_CASE("the divisor is behind the latch bit and the scratch register keeps its byte") {
  Line line;
  line.out(kLcr, 0x83);
  line.out(kData, 0x0c);
  line.out(kIer, 0x01);
  CHECK(line.in(kData) == 0x0c);
  CHECK(line.in(kIer) == 0x01);
  line.out(kLcr, 0x03);
  CHECK(line.in(kIer) == 0);
  CHECK(line.sent.empty());
  line.out(kScr, 0x5a);
  CHECK(line.in(kScr) == 0x5a);
  line.out(kIer, 0xff);
  CHECK(line.in(kIer) == 0x0f);
  CHECK((line.in(kMsr)&0xb0) == 0xb0);
}

TEST_CASE("in loopback, bytes come back and modem outputs are modem inputs") {
  Line line;
  line.out(kMcr, 0x1a);  // loop, OUT2, RTS: how Linux probes
  CHECK((line.in(kMsr)&0xf0) == 0x90);
  line.out(kData, 'q');
  CHECK(line.sent.empty());
  CHECK(line.in(kData) == 'q');
  CHECK(line.receive("out") == 0);
}

TEST_CASE("a UART state with impossible registers or damaged bytes is refused") {
  CountingIrq irq;
  const auto refused = [&](auto change) {
    SerialState state;
    change(&state);
    return !Serial::create_from_state(&irq, {}, state).ok();
  };
  CHECK_FALSE(refused([](SerialState*) {}));
  CHECK(refused([](SerialState* s) { s->interrupt_enable = 0x10; }));
  CHECK(refused([](SerialState* s) { s->modem_control = 0x20; }));
  CHECK(refused([](SerialState* s) { s->fifo_control = 0x02; }));
  CHECK(refused([](SerialState* s) { s->line_errors = 1; }));
  CHECK(refused([](SerialState* s) { s->received.resize(Serial::kReceiveBytes + 1); }));
  const auto bytes = encode_state(SerialState{});
  CHECK_FALSE(decode_serial_state(std::span(bytes).first(bytes.size() - 1)).ok());
}

TEST_CASE("accesses of any width at any port stay inside the registers") {
  Line line;
  std::array<std::byte, 8> data{};
  for (uint64_t port = 0; port < Serial::kPorts; ++port) {
    for (size_t width = 1; width <= 8; ++width) {
      line.serial->bus_write(port, std::span(data).first(width));
      line.serial->bus_read(port, std::span(data).first(width));
    }
  }
  CHECK(line.in(kScr) != 0xee);
}
