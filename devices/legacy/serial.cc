#include "devices/legacy/serial.h"

#include <algorithm>

namespace ramet {
namespace {

// Registers (PC16550D, table 1).
enum Register : uint64_t {
  kData = 0,             // RBR, THR; DLL with DLAB
  kInterruptEnable = 1,  // IER; DLM with DLAB
  kInterruptId = 2,      // IIR, FCR
  kLineControl = 3,
  kModemControl = 4,
  kLineStatus = 5,
  kModemStatus = 6,
  kScratch = 7,
};

constexpr uint8_t kEnableReceived = 1 << 0;
constexpr uint8_t kEnableTransmitEmpty = 1 << 1;
constexpr uint8_t kEnableLineStatus = 1 << 2;
constexpr uint8_t kInterruptEnableMask = 0x0f;

// IIR, by priority (table 4).
constexpr uint8_t kNoInterrupt = 0x01;
constexpr uint8_t kCauseLineStatus = 0x06;
constexpr uint8_t kCauseReceived = 0x04;
constexpr uint8_t kCauseTransmitEmpty = 0x02;
constexpr uint8_t kFifosEnabled = 0xc0;

constexpr uint8_t kFifoEnable = 1 << 0;
constexpr uint8_t kFifoClearReceive = 1 << 1;
constexpr uint8_t kFifoKept = 0xc9;  // the clear bits clear themselves

constexpr uint8_t kDivisorLatch = 1 << 7;
constexpr uint8_t kLoopback = 1 << 4;
constexpr uint8_t kModemControlMask = 0x1f;

constexpr uint8_t kDataReady = 1 << 0;
constexpr uint8_t kOverrun = 1 << 1;
constexpr uint8_t kTransmitEmpty = (1 << 5) | (1 << 6);  // THRE and TEMT

// MSR: carrier, data set ready, clear to send: someone is there.
constexpr uint8_t kModemReady = (1 << 7) | (1 << 5) | (1 << 4);

uint8_t high(uint16_t value) { return static_cast<uint8_t>(value >> 8); }
uint8_t low(uint16_t value) { return static_cast<uint8_t>(value & 0xff); }

}  // namespace

Serial::Serial(IrqLine* irq, Sink sink) : irq_(irq), sink_(std::move(sink)) {}

StatusOr<std::unique_ptr<Serial>> Serial::create_from_state(IrqLine* irq, Sink sink,
                                                            const SerialState& state) {
  if (state.received.size() > kReceiveBytes ||
      (state.interrupt_enable & ~kInterruptEnableMask) != 0 ||
      (state.fifo_control & ~kFifoKept) != 0 || (state.modem_control & ~kModemControlMask) != 0 ||
      (state.line_errors & ~kOverrun) != 0) {
    return absl::InvalidArgumentError("serial state: a register has bits that it cannot hold");
  }
  auto serial = std::make_unique<Serial>(irq, std::move(sink));
  serial->state_ = state;
  serial->state_.received.clear();
  serial->received_.assign(state.received.begin(), state.received.end());
  return serial;
}

bool Serial::divisor_latch() const { return (state_.line_control & kDivisorLatch) != 0; }
bool Serial::loopback() const { return (state_.modem_control & kLoopback) != 0; }

void Serial::bus_read(uint64_t offset, std::span<std::byte> data) {
  std::fill(data.begin(), data.end(), std::byte{0xff});
  const std::lock_guard lock(mutex_);
  // An access of several bytes goes to successive ports, as on the ISA bus.
  for (size_t i = 0; i < data.size() && offset + i < kPorts; ++i) {
    data[i] = std::byte{read_register(offset + i)};
  }
}

void Serial::bus_write(uint64_t offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < data.size() && offset + i < kPorts; ++i) {
    write_register(offset + i, std::to_integer<uint8_t>(data[i]));
  }
}

uint8_t Serial::read_register(uint64_t offset) {
  switch (offset) {
    case kData:
      return divisor_latch() ? low(state_.divisor) : read_data();
    case kInterruptEnable:
      return divisor_latch() ? high(state_.divisor) : state_.interrupt_enable;
    case kInterruptId:
      return read_interrupt_id();
    case kLineControl:
      return state_.line_control;
    case kModemControl:
      return state_.modem_control;
    case kLineStatus: {
      const uint8_t value = line_status();
      state_.line_errors = 0;  // reading LSR clears the error bits
      update_line();
      return value;
    }
    case kModemStatus:
      return modem_status();
    default:
      return state_.scratch;
  }
}

void Serial::write_register(uint64_t offset, uint8_t value) {
  switch (offset) {
    case kData:
      if (divisor_latch()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0xff00) | value);
      } else {
        write_data(value);
      }
      return;
    case kInterruptEnable: {
      if (divisor_latch()) {
        state_.divisor = static_cast<uint16_t>((state_.divisor & 0x00ff) | (value << 8));
        return;
      }
      const uint8_t added = value & ~state_.interrupt_enable;
      state_.interrupt_enable = value & kInterruptEnableMask;
      // Enabling it while THR is empty, as it always is here, makes it pending at once; drivers
      // test for a 16550 by this.
      state_.transmit_interrupt |= (added & kEnableTransmitEmpty) != 0;
      return update_line();
    }
    case kInterruptId:  // FCR
      state_.fifo_control = value & kFifoKept;
      if ((value & kFifoClearReceive) != 0) {
        received_.clear();
      }
      return update_line();
    case kLineControl:
      state_.line_control = value;
      return;
    case kModemControl:
      state_.modem_control = value & kModemControlMask;
      return;
    case kScratch:
      state_.scratch = value;
      return;
    default:
      return;  // LSR and MSR: read-only outside factory tests
  }
}

uint8_t Serial::read_data() {
  if (received_.empty()) {
    return 0;
  }
  const auto value = std::to_integer<uint8_t>(received_.front());
  received_.pop_front();
  update_line();
  return value;
}

void Serial::write_data(uint8_t value) {
  if (loopback()) {
    take_byte(value);
  } else if (sink_) {
    sink_(std::byte{value});
  }
  state_.transmit_interrupt = true;  // THR is empty again
  update_line();
}

void Serial::take_byte(uint8_t value) {
  if (received_.size() >= kReceiveBytes) {
    ++dropped_;
    state_.line_errors |= kOverrun;
    return;
  }
  received_.push_back(std::byte{value});
}

size_t Serial::receive(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  if (loopback()) {
    dropped_ += bytes.size();
    return 0;  // the line is cut off from the receiver
  }
  const size_t room = std::min(bytes.size(), kReceiveBytes - received_.size());
  for (const std::byte byte : bytes) {
    take_byte(std::to_integer<uint8_t>(byte));
  }
  update_line();
  return room;
}

uint8_t Serial::line_status() const {
  const uint8_t ready = received_.empty() ? 0 : kDataReady;
  return static_cast<uint8_t>(ready | state_.line_errors | kTransmitEmpty);
}

uint8_t Serial::modem_status() const {
  if (!loopback()) {
    return kModemReady;
  }
  // In loopback DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD.
  const uint8_t control = state_.modem_control;
  return static_cast<uint8_t>(((control & 1) << 5) | ((control & 2) << 3) | ((control & 4) << 4) |
                              ((control & 8) << 4));
}

uint8_t Serial::pending_interrupt() const {
  const uint8_t enabled = state_.interrupt_enable;
  if ((enabled & kEnableLineStatus) != 0 && state_.line_errors != 0) {
    return kCauseLineStatus;
  }
  if ((enabled & kEnableReceived) != 0 && !received_.empty()) {
    return kCauseReceived;
  }
  if ((enabled & kEnableTransmitEmpty) != 0 && state_.transmit_interrupt) {
    return kCauseTransmitEmpty;
  }
  return kNoInterrupt;
}

uint8_t Serial::read_interrupt_id() {
  const uint8_t cause = pending_interrupt();
  if (cause == kCauseTransmitEmpty) {
    state_.transmit_interrupt = false;  // reading IIR serves this cause
  }
  update_line();
  const uint8_t fifos = (state_.fifo_control & kFifoEnable) != 0 ? kFifosEnabled : 0;
  return static_cast<uint8_t>(cause | fifos);
}

void Serial::update_line() {
  const bool was_high = line_high_;
  line_high_ = pending_interrupt() != kNoInterrupt;
  if (line_high_ && !was_high) {
    irq_->trigger();
  }
}

SerialState Serial::save() const {
  const std::lock_guard lock(mutex_);
  SerialState state = state_;
  state.received.assign(received_.begin(), received_.end());
  return state;
}

void Serial::resume() {
  const std::lock_guard lock(mutex_);
  line_high_ = false;
  update_line();
}

uint64_t Serial::dropped_bytes() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

}  // namespace ramet
