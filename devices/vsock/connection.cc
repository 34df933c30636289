#include "devices/vsock/connection.h"

#include <algorithm>

#include <absl/strings/str_format.h>

namespace ramet::vsock {

Connection::Connection(PortPair ports, Origin origin)
    : ports_(ports),
      origin_(origin),
      phase_(origin == Origin::kHost ? Phase::kConnecting : Phase::kOpen),
      was_open_(origin == Origin::kGuest),
      pending_request_(origin == Origin::kHost),
      pending_response_(origin == Origin::kGuest) {}

Verdict Connection::accept_request(const PacketHeader& request) {
  return update_peer_credit(request);
}

Verdict Connection::receive(const PacketHeader& header, PayloadSource payload) {
  if (header.op == Op::kRst) {
    finish(absl::UnavailableError(was_open_ ? "the guest reset the connection"
                                            : "the guest refused the connection"),
           /*owe_rst=*/false);
    return Verdict::kTaken;
  }
  if (phase_ == Phase::kDone) {
    return Verdict::kTaken;  // our RST is on its way and answers this too
  }
  const bool answers_request = header.op == Op::kResponse && !pending_request_;
  if (answers_request != (phase_ == Phase::kConnecting)) {
    return fail(Verdict::kMalformed,
                absl::UnavailableError(absl::StrFormat("the guest sent operation %d out of turn",
                                                       static_cast<int>(header.op))));
  }
  if (const Verdict verdict = update_peer_credit(header); verdict != Verdict::kTaken) {
    return verdict;
  }
  switch (header.op) {
    case Op::kResponse:
      phase_ = Phase::kOpen;
      was_open_ = true;
      opened.notify_all();
      break;
    case Op::kRw:
      return receive_data(header, payload);
    case Op::kShutdown:
      return receive_shutdown(header.flags);
    case Op::kCreditUpdate:
      break;
    case Op::kCreditRequest:
      pending_credit_update_ = true;
      break;
    default:
      return fail(Verdict::kMalformed,
                  absl::UnavailableError(absl::StrFormat("the guest sent unknown operation %d",
                                                         static_cast<int>(header.op))));
  }
  return Verdict::kTaken;
}

Verdict Connection::update_peer_credit(const PacketHeader& header) {
  const uint32_t advance = header.fwd_cnt - peer_fwd_cnt_;
  const uint32_t in_flight = sent_cnt_ - peer_fwd_cnt_;
  if (advance <= in_flight) {
    peer_fwd_cnt_ = header.fwd_cnt;
  } else if (advance < (1u << 31)) {
    return fail(
        Verdict::kCreditViolation,
        absl::UnavailableError(absl::StrFormat(
            "the guest claims to have taken %d bytes of %d in flight", advance, in_flight)));
  }
  // Else it is older than what we know. Linux takes fwd_cnt before it queues a packet, so two of
  // its threads may send theirs in the other order: the newer number stays.
  peer_buf_alloc_ = std::min(header.buf_alloc, kMaxPeerBufferBytes);
  if (peer_credit() > 0) {
    credit_requested_ = false;
  }
  return Verdict::kTaken;
}

Verdict Connection::receive_data(const PacketHeader& header, PayloadSource payload) {
  if ((peer_shutdown_ & kShutdownSend) != 0) {
    return fail(Verdict::kMalformed,
                absl::UnavailableError("the guest sent data after it shut down its sending side"));
  }
  // Before its RESPONSE the guest has been told of no credit at all.
  if (pending_response_ || header.len > receive_.room()) {
    return fail(Verdict::kCreditViolation,
                absl::UnavailableError(absl::StrFormat(
                    "the guest sent %d bytes with credit for %d", header.len,
                    pending_response_ ? 0 : static_cast<uint64_t>(receive_.room()))));
  }
  if (closing_) {
    fwd_cnt_ += header.len;  // nobody will read it
    pending_credit_update_ |= untold() >= kCreditUpdateBytes;
    return Verdict::kTaken;
  }
  for (const std::span<std::byte> part : receive_.prepare(header.len)) {
    if (part.empty()) {
      continue;
    }
    if (Status status = payload(part); !status.ok()) {
      return fail(Verdict::kMalformed, absl::UnavailableError(std::string(status.message())));
    }
  }
  receive_.commit(header.len);
  changed.notify_all();
  return Verdict::kTaken;
}

Verdict Connection::receive_shutdown(uint32_t flags) {
  peer_shutdown_ |= flags & kShutdownBoth;
  if (peer_shutdown_ == kShutdownBoth) {
    // 5.10.6.5: the answer to a full shutdown is RST; after it the guest may use its port again.
    finish(Status(), /*owe_rst=*/true);
  } else if ((peer_shutdown_ & kShutdownReceive) != 0) {
    transmit_.clear();
  }
  changed.notify_all();
  return Verdict::kTaken;
}

Verdict Connection::fail(Verdict verdict, Status error) {
  finish(std::move(error), /*owe_rst=*/true);
  return verdict;
}

void Connection::finish(Status error, bool owe_rst) {
  if (phase_ != Phase::kDone) {
    phase_ = Phase::kDone;
    error_ = std::move(error);
    transmit_.clear();
    pending_request_ = pending_response_ = pending_credit_update_ = false;
  }
  pending_rst_ = owe_rst;
  changed.notify_all();
  opened.notify_all();
}

uint32_t Connection::peer_credit() const {
  const uint32_t in_flight = sent_cnt_ - peer_fwd_cnt_;
  return peer_buf_alloc_ > in_flight ? peer_buf_alloc_ - in_flight : 0;
}

uint32_t Connection::shutdown_due() const {
  if (!write_shut_ || !transmit_.empty()) {
    return 0;
  }
  return (closing_ ? kShutdownBoth : kShutdownSend) & ~sent_shutdown_;
}

Op Connection::next_op() const {
  if (pending_rst_) {
    return Op::kRst;
  }
  if (pending_request_) {
    return Op::kRequest;
  }
  if (phase_ != Phase::kOpen) {
    return Op::kInvalid;
  }
  if (pending_response_) {
    return Op::kResponse;
  }
  if (!transmit_.empty() && peer_credit() > 0) {
    return Op::kRw;  // tells fwd_cnt as well
  }
  if (pending_credit_update_) {
    return Op::kCreditUpdate;
  }
  if (shutdown_due() != 0) {
    return Op::kShutdown;
  }
  return !transmit_.empty() && !credit_requested_ ? Op::kCreditRequest : Op::kInvalid;
}

bool Connection::has_output() const { return next_op() != Op::kInvalid; }

OutPacket Connection::next_output(uint32_t max_payload) const {
  OutPacket packet;
  PacketHeader& header = packet.header;
  header.src_cid = kHostCid;
  header.dst_cid = kGuestCid;
  header.src_port = ports_.host;
  header.dst_port = ports_.guest;
  header.type = kTypeStream;
  header.op = next_op();
  header.buf_alloc = kReceiveBufferBytes;
  header.fwd_cnt = fwd_cnt_;
  if (header.op == Op::kShutdown) {
    header.flags = shutdown_due() | sent_shutdown_;
  } else if (header.op == Op::kRw) {
    const size_t bytes = std::min<size_t>({transmit_.size(), peer_credit(), max_payload});
    header.len = static_cast<uint32_t>(bytes);
    packet.payload = transmit_.front(bytes);
  }
  return packet;
}

void Connection::output_sent(const OutPacket& packet) {
  told_fwd_cnt_ = packet.header.fwd_cnt;
  pending_credit_update_ = false;
  switch (packet.header.op) {
    case Op::kRst:
      pending_rst_ = false;
      break;
    case Op::kRequest:
      pending_request_ = false;
      break;
    case Op::kResponse:
      pending_response_ = false;
      break;
    case Op::kRw: {
      const bool was_full = transmit_.room() == 0;
      transmit_.consume(packet.header.len);
      sent_cnt_ += packet.header.len;
      if (was_full) {
        changed.notify_all();
      }
      break;
    }
    case Op::kShutdown:
      sent_shutdown_ |= packet.header.flags;
      break;
    case Op::kCreditRequest:
      credit_requested_ = true;
      break;
    default:
      break;
  }
}

StatusOr<VsockTransfer> Connection::try_read(std::span<std::byte> into) {
  if (!receive_.empty()) {
    const size_t bytes = receive_.pull(into);
    fwd_cnt_ += static_cast<uint32_t>(bytes);
    pending_credit_update_ |= phase_ == Phase::kOpen && untold() >= kCreditUpdateBytes;
    return VsockTransfer{VsockTransfer::State::kMoved, bytes};
  }
  if ((peer_shutdown_ & kShutdownSend) != 0) {
    return VsockTransfer{VsockTransfer::State::kEnd, 0};
  }
  if (phase_ == Phase::kDone) {
    return error_;
  }
  return VsockTransfer{};
}

StatusOr<VsockTransfer> Connection::try_write(std::span<const std::byte> from) {
  if (write_shut_) {
    return absl::FailedPreconditionError("write to a vsock stream after shutdown_write()");
  }
  if (phase_ == Phase::kDone && !error_.ok()) {
    return error_;
  }
  if (phase_ == Phase::kDone || (peer_shutdown_ & kShutdownReceive) != 0) {
    return absl::UnavailableError("the guest shut down its receiving side");
  }
  const size_t bytes = transmit_.push(from);
  return bytes == 0 ? VsockTransfer{} : VsockTransfer{VsockTransfer::State::kMoved, bytes};
}

bool Connection::drained() const {
  return receive_.empty() && (peer_shutdown_ & kShutdownSend) == 0;
}

bool Connection::readable() const { return !drained() || phase_ == Phase::kDone; }

bool Connection::writable() const {
  return write_shut_ || phase_ == Phase::kDone || (peer_shutdown_ & kShutdownReceive) != 0 ||
         transmit_.room() > 0;
}

Status Connection::shutdown_write() {
  if (phase_ == Phase::kDone && !error_.ok()) {
    return error_;
  }
  write_shut_ = true;
  return Status();
}

void Connection::close() {
  if (phase_ == Phase::kConnecting) {
    drop();
    return;
  }
  fwd_cnt_ += static_cast<uint32_t>(receive_.size());
  receive_.clear();
  write_shut_ = true;
  closing_ = true;
}

void Connection::drop() {
  receive_.clear();
  if (phase_ != Phase::kDone) {
    // The guest has not heard of a request that was not sent.
    finish(absl::CancelledError("the host dropped the connection"), !pending_request_);
  }
}

void Connection::end(Status reason) { finish(std::move(reason), /*owe_rst=*/false); }

}  // namespace ramet::vsock
