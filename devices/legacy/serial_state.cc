// The UART's saved state as bytes.
#include "devices/legacy/serial.h"
#include "vmm/state/codec.h"

namespace ramet {

std::vector<std::byte> encode_state(const SerialState& state) {
  Encoder out;
  out.number(state.interrupt_enable);
  out.number(state.fifo_control);
  out.number(state.line_control);
  out.number(state.modem_control);
  out.number(state.line_errors);
  out.number(state.scratch);
  out.number(state.divisor);
  out.number(static_cast<uint8_t>(state.transmit_interrupt));
  out.blob(state.received);
  return out.take();
}

StatusOr<SerialState> decode_serial_state(std::span<const std::byte> bytes) {
  Decoder in(bytes, "serial state");
  SerialState state;
  state.interrupt_enable = in.number<uint8_t>();
  state.fifo_control = in.number<uint8_t>();
  state.line_control = in.number<uint8_t>();
  state.modem_control = in.number<uint8_t>();
  state.line_errors = in.number<uint8_t>();
  state.scratch = in.number<uint8_t>();
  state.divisor = in.number<uint16_t>();
  state.transmit_interrupt = in.boolean("transmit interrupt");
  const auto received = in.blob(Serial::kReceiveBytes, "received bytes");
  state.received.assign(received.begin(), received.end());
  RAMET_RETURN_IF_ERROR(in.finish());
  return state;
}

}  // namespace ramet
