#include "devices/vsock/device.h"

#include <algorithm>
#include <array>
#include <utility>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

using virtio::Chain;
using vsock::Core;
using vsock::ResetEvent;

// Events are rare; Linux offers 8 buffers for them.
constexpr std::array<uint16_t, 3> kQueueSizes = {256, 256, 64};
// A packet must hold at least a byte of payload, or a stream would stand still.
constexpr uint64_t kSmallestRxBuffer = vsock::kHeaderBytes + 1;
// One in so many of the transmit queue's entries may be taken before the guest is told.
constexpr uint16_t kUntoldShare = 4;
constexpr uint64_t kLargestPayload = 64 * 1024;  // as Linux's VIRTIO_VSOCK_MAX_PKT_BUF_SIZE

size_t most_connections(uint32_t asked) {
  return asked == 0 ? vsock::kMaxConnections : std::min<size_t>(asked, vsock::kMaxConnections);
}

ResetEvent reset_event_of(const vsock::VsockState& restored) {
  switch (restored.reset_event) {
    case ResetEvent::kNotNeeded:
      return ResetEvent::kNone;
    case ResetEvent::kGiven:
      // It resets what this fork must have reset, too: since it was given, no packet has gone out.
      return ResetEvent::kGiven;
    case ResetEvent::kNone:
    case ResetEvent::kDue:
      break;
  }
  return ResetEvent::kDue;
}

}  // namespace

std::unique_ptr<Vsock> Vsock::create(const VsockOptions& options) {
  const uint32_t first = vsock::advance_port(vsock::kFirstDynamicPort, options.host_port_offset);
  return std::unique_ptr<Vsock>(new Vsock(first, options.max_connections, {}));
}

StatusOr<std::unique_ptr<Vsock>> Vsock::create_from_state(const VsockOptions& options,
                                                          std::span<const std::byte> bytes) {
  RAMET_ASSIGN_OR_RETURN(const vsock::VsockState state, vsock::decode_vsock_state(bytes));
  const uint32_t first = vsock::advance_port(state.next_port, options.host_port_offset);
  return std::unique_ptr<Vsock>(new Vsock(first, options.max_connections, state));
}

Vsock::Vsock(uint32_t first_port, uint32_t max_connections, const vsock::VsockState& restored)
    : core_(std::make_shared<Core>(first_port, most_connections(max_connections))),
      restored_(restored.active) {
  if (restored.active) {
    reset_event_ = reset_event_of(restored);
    event_buffers_ = restored.event_buffers;
  }
  const Core::Lock lock = core_->lock();
  core_->set_port(this);
}

Vsock::~Vsock() {
  const Core::Lock lock = core_->lock();
  core_->set_port(nullptr);
  core_->end(absl::CancelledError("the machine is gone"));
}

std::span<const uint16_t> Vsock::queue_max_sizes() const { return kQueueSizes; }

void Vsock::read_config(uint64_t offset, std::span<std::byte> into) {
  std::array<std::byte, 8> config;  // 5.10.4: le64 guest_cid
  for (size_t i = 0; i < config.size(); ++i) {
    config[i] = static_cast<std::byte>(vsock::kGuestCid >> (8 * i));
  }
  virtio::read_config_bytes(config, offset, into);
}

Status Vsock::activate(virtio::Activation activation) {
  const Core::Lock lock = core_->lock();
  if (phase_ != Phase::kInactive) {
    return absl::FailedPreconditionError("activate a vsock device that is active");
  }
  auto& queues = activation.queues;
  if (queues.size() != kQueueSizes.size() || !queues[kRxQueue] || !queues[kTxQueue] ||
      !queues[kEventQueue]) {
    return absl::FailedPreconditionError("a vsock device needs its three queues");
  }
  queues_.emplace(Queues{*queues[kRxQueue], *queues[kTxQueue], *queues[kEventQueue]});
  events_ = activation.events;
  phase_ = std::exchange(restored_, false) ? Phase::kQuiesced : Phase::kRunning;
  run(/*look=*/true);
  return Status();
}

void Vsock::notify(uint16_t index) {
  const Core::Lock lock = core_->lock();
  run(/*look=*/index == kTxQueue);
}

void Vsock::pump() { run(/*look=*/false); }

void Vsock::reset() {
  const Core::Lock lock = core_->lock();
  phase_ = Phase::kInactive;
  restored_ = false;
  queues_.reset();
  events_ = nullptr;
  reset_event_ = ResetEvent::kNone;
  tx_paused_ = false;
  tx_awaited_ = false;
  core_->muxer().driver_reset();
}

void Vsock::quiesce() {
  const Core::Lock lock = core_->lock();
  if (phase_ == Phase::kRunning) {
    phase_ = Phase::kQuiesced;  // every chain that was popped was pushed under the lock
    tx_awaited_ = true;         // what is restored knows nothing of what was not told
    judge(interrupt());
  }
}

void Vsock::resume() {
  const Core::Lock lock = core_->lock();
  restored_ = false;
  if (phase_ == Phase::kQuiesced) {
    phase_ = Phase::kRunning;
    run(/*look=*/true);
  }
}

StatusOr<virtio::SavedDevice> Vsock::save() const {
  const Core::Lock lock = core_->lock();
  if (phase_ == Phase::kRunning) {
    return absl::FailedPreconditionError("save a vsock device that runs");
  }
  vsock::VsockState state;
  state.active = queues_.has_value();
  state.reset_event = reset_event_to_come();
  state.event_buffers = event_buffers_;
  state.next_port = core_->muxer().next_port();
  virtio::SavedDevice saved;
  saved.bytes = vsock::encode_vsock_state(state);
  saved.queue_positions.assign(kQueueSizes.size(), 0);
  if (queues_) {
    saved.queue_positions = {queues_->rx.position(), queues_->tx.position(),
                             queues_->event.position()};
  }
  return saved;
}

ResetEvent Vsock::reset_event_to_come() const {
  // What ended without a packet the guest has not heard of.
  const bool unheard = phase_ == Phase::kFailed || !core_->ended().ok();
  const bool needed =
      reset_event_ != ResetEvent::kNone || unheard || core_->muxer().known_to_guest();
  return needed ? reset_event_ : ResetEvent::kNotNeeded;
}

void Vsock::run(bool look) {
  if (phase_ != Phase::kRunning) {
    return;
  }
  Status status = work(look);
  judge(status.ok() ? interrupt() : status);
}

void Vsock::judge(const Status& status) {
  if (!status.ok()) {
    phase_ = Phase::kFailed;
    core_->muxer().driver_reset();
    events_->needs_reset(annotate(status, "vsock"));
  }
}

Status Vsock::work(bool look) {
  if (look) {
    RAMET_RETURN_IF_ERROR(queues_->tx.begin_batch().status());
  }
  RAMET_RETURN_IF_ERROR(settle_reset_event());
  // Ends: every round but the last takes a chain of a batch that this call does not extend.
  while (true) {
    RAMET_ASSIGN_OR_RETURN(const bool all_taken, receive());
    RAMET_RETURN_IF_ERROR(transmit());
    if (all_taken || !core_->muxer().can_receive()) {
      break;
    }
  }
  return Status();
}

Status Vsock::settle_reset_event() {
  if (reset_event_ == ResetEvent::kNone) {
    return Status();
  }
  RAMET_ASSIGN_OR_RETURN(const uint16_t buffers, queues_->event.begin_batch());
  if (reset_event_ == ResetEvent::kDue) {
    return give_reset_event();
  }
  if (buffers > event_buffers_) {
    reset_event_ = ResetEvent::kNone;
  }
  return Status();
}

Status Vsock::give_reset_event() {
  virtio::Queue& queue = queues_->event;
  RAMET_ASSIGN_OR_RETURN(const std::optional<Chain> chain, queue.pop());
  if (!chain) {
    return Status();  // begin_batch() asked to be told of the first one
  }
  uint32_t written = 0;
  // Little-endian, and 0 in any order.
  if (chain->writer().write_object(vsock::kEventTransportReset).ok()) {
    written = sizeof(vsock::kEventTransportReset);
  } else {
    ++core_->muxer().counters().bad_buffers;
  }
  RAMET_RETURN_IF_ERROR(queue.push_used(chain->head(), written));
  if (written == 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("event buffer of %d bytes", chain->writable_bytes()));
  }
  ++core_->muxer().counters().transport_resets;
  RAMET_ASSIGN_OR_RETURN(event_buffers_, queue.begin_batch());
  reset_event_ = ResetEvent::kGiven;
  return Status();
}

StatusOr<bool> Vsock::receive() {
  virtio::Queue& queue = queues_->tx;
  while (core_->muxer().can_receive()) {
    RAMET_ASSIGN_OR_RETURN(const std::optional<Chain> chain, queue.pop());
    if (!chain) {
      tx_paused_ = false;
      return true;
    }
    receive_chain(*chain);
    RAMET_RETURN_IF_ERROR(queue.push_used(chain->head(), 0));
  }
  if (!std::exchange(tx_paused_, true)) {
    ++core_->muxer().counters().tx_pauses;
  }
  return false;
}

void Vsock::receive_chain(const Chain& chain) {
  virtio::Reader reader = chain.reader();
  std::array<std::byte, vsock::kHeaderBytes> bytes;
  if (!reader.read(bytes).ok()) {
    ++core_->muxer().counters().bad_buffers;  // nobody to answer to
    return;
  }
  const vsock::PacketHeader header = vsock::decode_header(bytes);
  const bool of_host = core_->muxer().receive(
      header, reader.remaining(), [&](std::span<std::byte> into) { return reader.read(into); });
  tx_awaited_ = tx_awaited_ || !of_host;
}

Status Vsock::transmit() {
  virtio::Queue& queue = queues_->rx;
  int useless = 0;
  // Ends: a useful buffer takes something away from what is owed, and useless ones are counted.
  while (reset_event_ == ResetEvent::kNone && core_->muxer().has_output()) {
    RAMET_ASSIGN_OR_RETURN(const std::optional<Chain> chain, next_rx_buffer());
    if (!chain) {
      break;
    }
    const uint32_t written = fill(*chain);
    RAMET_RETURN_IF_ERROR(queue.push_used(chain->head(), written));
    if (written == 0 && ++useless > queue.size()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%d receive buffers in a row below %d bytes", useless, kSmallestRxBuffer));
    }
  }
  return Status();
}

StatusOr<std::optional<Chain>> Vsock::next_rx_buffer() {
  RAMET_ASSIGN_OR_RETURN(std::optional<Chain> chain, queues_->rx.pop());
  if (!chain) {
    RAMET_RETURN_IF_ERROR(queues_->rx.begin_batch().status());
    return queues_->rx.pop();
  }
  return chain;
}

uint32_t Vsock::fill(const Chain& chain) {
  vsock::Muxer& muxer = core_->muxer();
  if (chain.writable_bytes() < kSmallestRxBuffer) {
    ++muxer.counters().bad_buffers;
    return 0;
  }
  const uint64_t room = std::min(chain.writable_bytes() - vsock::kHeaderBytes, kLargestPayload);
  const vsock::OutPacket packet = muxer.next_output(static_cast<uint32_t>(room));
  virtio::Writer writer = chain.writer();
  Status status = writer.write(vsock::encode_header(packet.header));
  for (const std::span<const std::byte> part : packet.payload) {
    if (status.ok() && !part.empty()) {
      status = writer.write(part);
    }
  }
  if (!status.ok()) {
    ++muxer.counters().bad_buffers;
    return 0;
  }
  muxer.output_sent(packet);
  return static_cast<uint32_t>(vsock::kHeaderBytes) + packet.header.len;
}

Status Vsock::interrupt() {
  virtio::Queue& tx = queues_->tx;
  RAMET_ASSIGN_OR_RETURN(const bool event, queues_->event.should_interrupt());
  RAMET_ASSIGN_OR_RETURN(const bool rx, queues_->rx.should_interrupt());
  bool told = event || rx;
  if (told || tx_awaited_ || tx.untold() >= tx.size() / kUntoldShare) {
    tx_awaited_ = false;
    RAMET_ASSIGN_OR_RETURN(const bool wanted, tx.should_interrupt());
    told |= wanted;
  }
  if (told) {
    events_->queue_interrupt(event ? kEventQueue : rx ? kRxQueue : kTxQueue);
  }
  return Status();
}

std::vector<virtio::Metric> Vsock::metrics() const {
  const VsockMetrics now = host().metrics();
  return {{"rx_packets", now.rx_packets},
          {"rx_bytes", now.rx_bytes},
          {"tx_packets", now.tx_packets},
          {"tx_bytes", now.tx_bytes},
          {"connections", now.connections},
          {"connections_made", now.connections_made},
          {"refused", now.refused},
          {"resets_sent", now.resets_sent},
          {"resets_received", now.resets_received},
          {"malformed", now.malformed},
          {"foreign_cid", now.foreign_cid},
          {"bad_buffers", now.bad_buffers},
          {"credit_violations", now.credit_violations},
          {"transport_resets", now.transport_resets},
          {"tx_pauses", now.tx_pauses}};
}

}  // namespace ramet
