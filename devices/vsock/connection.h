// Connection: the state machine of one stream connection (virtio 1.2, 5.10.6.3 to 5.10.6.5), with
// its two bounded buffers and the credit of both directions.
//
//   host connects:  kConnecting --RESPONSE--> kOpen --> kDone
//   guest connects:                           kOpen --> kDone
//
// kDone is reached by RST in either direction, by the guest shutting down both of its directions,
// by the host dropping the stream, and by every breach of the protocol. What the host still reads
// then is what arrived before.
//
// Thread rule: guarded by the core's mutex (core.h), which `changed` is used with.
// Invariant: the receive buffer never holds more than the credit given to the guest; no byte beyond
// the guest's credit is sent; replies are pending flags, so they take no memory however long the
// guest withholds receive buffers; nothing but at most one RST is sent in kDone.
#ifndef RAMET_DEVICES_VSOCK_CONNECTION_H_
#define RAMET_DEVICES_VSOCK_CONNECTION_H_

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <span>

#include <absl/functional/function_ref.h>

#include "devices/vsock/byte_ring.h"
#include "devices/vsock/change.h"
#include "devices/vsock/packet.h"
#include "devices/vsock/stream.h"
#include "vmm/base/status.h"

namespace ramet::vsock {

// What a guest may have in flight to us on one connection; also what we tell it as buf_alloc.
inline constexpr uint32_t kReceiveBufferBytes = 256 * 1024;
// Written by the host and not yet taken by the guest.
inline constexpr uint32_t kTransmitBufferBytes = 256 * 1024;
// A CREDIT_UPDATE is due when the host has read this much that the guest does not know of.
inline constexpr uint32_t kCreditUpdateBytes = kReceiveBufferBytes / 4;
// A guest's buf_alloc counts up to here, so that the 32-bit counters cannot be confused by one lap.
inline constexpr uint32_t kMaxPeerBufferBytes = 1u << 30;

// Copies the next bytes of a packet's payload out of guest memory.
using PayloadSource = absl::FunctionRef<Status(std::span<std::byte>)>;

// What became of a packet of the guest.
enum class Verdict : uint8_t {
  kTaken,
  kMalformed,        // broke the protocol: the connection is reset
  kCreditViolation,  // sent, or claimed to have received, more than it may: reset
};

struct OutPacket {
  PacketHeader header;
  std::array<std::span<const std::byte>, 2> payload;  // valid until the connection changes
};

class Connection {
 public:
  enum class Origin : uint8_t { kHost, kGuest };
  enum class Phase : uint8_t { kConnecting, kOpen, kDone };

  Connection(PortPair ports, Origin origin);

  PortPair ports() const { return ports_; }
  Origin origin() const { return origin_; }
  Phase phase() const { return phase_; }
  bool was_open() const { return was_open_; }
  // True when no packet of either side belongs to it any more: its ports are free.
  bool gone() const { return phase_ == Phase::kDone && !pending_rst_; }
  // Closed by the host and told so to the guest, whose RST is all that is missing.
  bool lingers() const { return closing_ && sent_shutdown_ == kShutdownBoth; }
  // Its REQUEST was not sent, so a reset of the guest's driver does not concern it.
  bool unsent_request() const { return phase_ == Phase::kConnecting && pending_request_; }

  // --- the guest's side -------------------------------------------------------------------------
  // The peer's credit as its REQUEST says it; before anything else on a connection of
  // Origin::kGuest.
  Verdict accept_request(const PacketHeader& request);
  // A packet for these ports of a known type; `payload` gives at least header.len bytes for kRw.
  Verdict receive(const PacketHeader& header, PayloadSource payload);

  bool has_output() const;
  // The next packet, with at most `max_payload` >= 1 bytes. Only when has_output().
  OutPacket next_output(uint32_t max_payload) const;
  // The packet that next_output() gave is in the guest's hands.
  void output_sent(const OutPacket& packet);

  // --- the host's side --------------------------------------------------------------------------
  StatusOr<VsockTransfer> try_read(std::span<std::byte> into);
  StatusOr<VsockTransfer> try_write(std::span<const std::byte> from);
  bool readable() const;
  // Neither bytes nor an end are left to read: an error, or nothing yet.
  bool drained() const;
  bool writable() const;
  Status shutdown_write();
  // In order: what was written, then SHUTDOWN. drop() is at once: RST.
  void close();
  void drop();
  // Ends it without a packet: the guest's driver or the machine is gone.
  void end(Status reason);
  // Why it is done; OK when the guest closed it in order.
  const Status& error() const { return error_; }

  size_t unread_bytes() const { return receive_.size(); }
  size_t allocated_bytes() const { return receive_.allocated() + transmit_.allocated(); }

  // Both with the core's mutex. Notified when readable() or writable() may have changed: not for
  // every packet, since a thread that wakes for nothing takes the processor from the guest.
  Change changed;
  std::condition_variable opened;  // phase() is not kConnecting any more
  bool woken = false;              // VsockStream::wake() since the last wait

 private:
  friend class ReadyList;

  Verdict update_peer_credit(const PacketHeader& header);
  Verdict receive_data(const PacketHeader& header, PayloadSource payload);
  Verdict receive_shutdown(uint32_t flags);
  // Ends it and owes the guest a RST.
  Verdict fail(Verdict verdict, Status error);
  void finish(Status error, bool owe_rst);
  uint32_t peer_credit() const;
  uint32_t shutdown_due() const;
  Op next_op() const;
  // fwd_cnt that the guest has not been told.
  uint32_t untold() const { return fwd_cnt_ - told_fwd_cnt_; }

  const PortPair ports_;
  const Origin origin_;
  Phase phase_;
  Status error_;
  bool was_open_ = false;

  // What is owed to the guest.
  bool pending_request_ = false;
  bool pending_response_ = false;
  bool pending_rst_ = false;
  bool pending_credit_update_ = false;
  bool credit_requested_ = false;  // once per stall: the answer may be "none" for long

  uint32_t peer_shutdown_ = 0;  // flags the guest has sent
  uint32_t sent_shutdown_ = 0;  // flags we have sent
  bool write_shut_ = false;
  bool closing_ = false;

  ByteRing receive_{kReceiveBufferBytes};
  uint32_t fwd_cnt_ = 0;       // bytes that left receive_, modulo 2^32
  uint32_t told_fwd_cnt_ = 0;  // as last sent

  ByteRing transmit_{kTransmitBufferBytes};
  uint32_t sent_cnt_ = 0;      // payload bytes sent, modulo 2^32
  uint32_t peer_fwd_cnt_ = 0;  // never ahead of sent_cnt_
  uint32_t peer_buf_alloc_ = 0;

  // Links of the muxer's list of connections with output.
  Connection* ready_next_ = nullptr;
  Connection* ready_previous_ = nullptr;
  bool ready_listed_ = false;
};

}  // namespace ramet::vsock

#endif  // RAMET_DEVICES_VSOCK_CONNECTION_H_
