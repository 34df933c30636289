// Saved state of the devices: whatever decodes encodes to the same bytes, and a transport made from
// it saves the same state again. Input: 1 byte that chooses the decoder, then its bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "devices/block/device.h"
#include "devices/block/file_backend.h"
#include "devices/block/layer_stack.h"
#include "devices/block/state.h"
#include "devices/legacy/serial.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/state.h"
#include "fuzz/virtio_machine.h"

namespace {

using namespace ramet;
using fuzz::require;

constexpr uint64_t kDiskBytes = 64 * 512;

void check_transport(std::span<const std::byte> input) {
  const auto state = virtio::decode_transport_state(input);
  if (!state.ok()) {
    require(!state.status().message().empty());
    return;
  }
  require(std::ranges::equal(virtio::encode_transport_state(*state), input));
  auto fd = create_memfd("fuzz-disk", kDiskBytes);
  require(fd.ok());
  const auto file = block::DiskFile::adopt(*std::move(fd), "disk", block::Access::kReadOnly);
  require(file.ok());
  auto device = block::BlockDevice::create_from_state(std::make_unique<block::FileBackend>(*file),
                                                      {}, state->device);
  if (!device.ok()) {
    return;
  }
  fuzz::load({});
  fuzz::SilentIrq irq;
  auto transport = virtio::MmioTransport::create_from_state(
      *std::move(device), {&fuzz::memory(), &irq, nullptr}, *state);
  if (!transport.ok()) {
    return;
  }
  require(irq.count == 0);
  const auto again = (*transport)->save();
  require(again.ok() && *again == *state);
  (*transport)->resume();
}

void check_serial(std::span<const std::byte> input) {
  const auto state = decode_serial_state(input);
  if (!state.ok()) {
    return;
  }
  require(std::ranges::equal(encode_state(*state), input));
  fuzz::SilentIrq irq;
  const auto serial = Serial::create_from_state(&irq, {}, *state);
  if (serial.ok()) {
    require((*serial)->save() == *state);
    (*serial)->resume();
    require(irq.count <= 1);
  }
}

void check_runs(std::span<const std::byte> input) {
  const auto runs = block::decode_runs(input, 1 << 20);
  if (runs.ok()) {
    require(std::ranges::equal(block::encode_runs(*runs), input));
    require(block::check_runs(*runs, 1 << 20).ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) {
    return 0;
  }
  const auto input = std::as_bytes(std::span(data, size)).subspan(1);
  switch (data[0] % 3) {
    case 0:
      check_transport(input);
      break;
    case 1:
      check_serial(input);
      break;
    default:
      check_runs(input);
  }
  return 0;
}
