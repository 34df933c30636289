// Serial: a 16550A UART (National Semiconductor PC16550D data sheet) on 8 I/O ports.
//
// Thread rule: bus_read and bus_write from any vCPU thread, receive() from any thread; one mutex.
// The sink is called with the mutex held, on the vCPU thread that wrote: it must not block nor call
// back.
// Invariant: the transmitter is always empty: a byte written to THR has gone to the sink before the
// write returns, so no snapshot falls in the middle of one. At most kReceiveBytes wait for the
// guest; what comes beyond is dropped and counted.
//
// Interrupts are edges, as on the ISA bus: one is raised when the chip's INTR output goes from low
// to high, so a driver serves causes until IIR shows none, as Linux's 8250 does. resume() raises an
// edge for what was pending at the save: the old machine may have lost it, and a driver waiting for
// "transmitter empty" would wait for ever; one that had taken it sees a spurious interrupt.
#ifndef RAMET_DEVICES_LEGACY_SERIAL_H_
#define RAMET_DEVICES_LEGACY_SERIAL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/bus/device.h"

namespace ramet {

// The registers and buffers, as plain data.
struct SerialState {
  uint8_t interrupt_enable = 0;
  uint8_t fifo_control = 0;
  uint8_t line_control = 0;
  uint8_t modem_control = 0;
  uint8_t line_errors = 0;  // the overrun bit of LSR
  uint8_t scratch = 0;
  uint16_t divisor = 0;
  bool transmit_interrupt = false;  // THRE is pending: set by an empty THR, cleared by reading IIR
  std::vector<std::byte> received;

  friend bool operator==(const SerialState&, const SerialState&) = default;
};

std::vector<std::byte> encode_state(const SerialState& state);
StatusOr<SerialState> decode_serial_state(std::span<const std::byte> bytes);

class Serial final : public BusDevice {
 public:
  static constexpr uint64_t kPorts = 8;
  static constexpr size_t kReceiveBytes = 256;
  using Sink = std::function<void(std::byte)>;

  // `irq` outlives the UART; `sink` takes what the guest sends and may be empty.
  Serial(IrqLine* irq, Sink sink);
  static StatusOr<std::unique_ptr<Serial>> create_from_state(IrqLine* irq, Sink sink,
                                                             const SerialState& state);

  void bus_read(uint64_t offset, std::span<std::byte> data) override;
  void bus_write(uint64_t offset, std::span<const std::byte> data) override;

  // Bytes for the guest; returns how many there was room for.
  size_t receive(std::span<const std::byte> bytes);

  SerialState save() const;
  // After a restore, before the vCPUs run.
  void resume();

  uint64_t dropped_bytes() const;

 private:
  uint8_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint8_t value);
  uint8_t read_data();
  void write_data(uint8_t value);
  uint8_t read_interrupt_id();
  uint8_t line_status() const;
  uint8_t modem_status() const;
  // The bits of IIR for the most urgent enabled cause; kNoInterrupt when there is none.
  uint8_t pending_interrupt() const;
  // Raises an edge when INTR has gone from low to high.
  void update_line();
  bool divisor_latch() const;
  bool loopback() const;
  void take_byte(uint8_t value);

  IrqLine* const irq_;
  const Sink sink_;
  mutable std::mutex mutex_;  // guards what follows
  SerialState state_;         // but for `received`, which is:
  std::deque<std::byte> received_;
  bool line_high_ = false;  // INTR
  uint64_t dropped_ = 0;
};

}  // namespace ramet

#endif  // RAMET_DEVICES_LEGACY_SERIAL_H_
