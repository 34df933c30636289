// Muxer: the table of connections and listening ports; takes the guest's packets, gives the packets
// for the guest, knows nothing of queues.
//
// Thread rule: guarded by the core's mutex (core.h).
// Invariant: at most kMaxConnections connections, of which the guest can make only
// kMaxListeners * kMaxBacklog that the host did not ask for or accept; what is owed to the guest
// lies in the connections' flags and in one queue of kMaxPendingResets. So whatever a guest does,
// memory stays below kMaxConnections * (kReceiveBufferBytes + kTransmitBufferBytes).
#ifndef RAMET_DEVICES_VSOCK_MUXER_H_
#define RAMET_DEVICES_VSOCK_MUXER_H_

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include <absl/container/flat_hash_map.h>

#include "devices/vsock/connection.h"
#include "devices/vsock/metrics.h"
#include "devices/vsock/packet.h"
#include "vmm/base/status.h"

namespace ramet::vsock {

inline constexpr size_t kMaxConnections = 1023;
inline constexpr size_t kMaxListeners = 16;
inline constexpr size_t kMaxBacklog = 16;
// Answers to packets that belong to no connection, waiting for receive buffers.
inline constexpr size_t kMaxPendingResets = 32;

// Host ports of connections that the host makes. Those below are for listeners; the last is
// VMADDR_PORT_ANY.
inline constexpr uint32_t kFirstDynamicPort = 1u << 16;
inline constexpr uint32_t kDynamicPorts = 0xffffffff - kFirstDynamicPort;
// `port` moved on by `offset` within that range.
uint32_t advance_port(uint32_t port, uint32_t offset);

// Connections with output, oldest first.
class ReadyList {
 public:
  Connection* front() const { return first_; }
  void append(Connection* connection);
  void remove(Connection* connection);

 private:
  Connection* first_ = nullptr;
  Connection* last_ = nullptr;
};

struct Listener {
  std::deque<std::shared_ptr<Connection>> backlog;  // made by the guest, not yet accepted
  std::condition_variable changed;                  // with the core's mutex
};

class Muxer {
 public:
  // At most `max_connections` of 1 to kMaxConnections at once.
  explicit Muxer(uint32_t first_port, size_t max_connections = kMaxConnections)
      : max_connections_(max_connections), next_port_(first_port) {}
  Muxer(const Muxer&) = delete;
  Muxer& operator=(const Muxer&) = delete;

  // --- the guest's side -------------------------------------------------------------------------
  // False while too many answers wait for receive buffers: leave the guest's packets where they
  // are.
  bool can_receive() const { return reset_count_ < kMaxPendingResets; }
  // One packet; `payload_bytes` is what follows the header in guest memory. Only when
  // can_receive(). Says whether it is of a connection that the host opened.
  bool receive(const PacketHeader& header, uint64_t payload_bytes, PayloadSource payload);

  bool has_output() const { return reset_count_ > 0 || ready_.front() != nullptr; }
  // The next packet, with at most `max_payload` >= 1 bytes. Only when has_output(); followed by
  // output_sent() with nothing between, or by nothing when the packet did not reach the guest.
  OutPacket next_output(uint32_t max_payload) const;
  void output_sent(const OutPacket& packet);

  // Whether the guest may know of a connection that is not over for it.
  bool known_to_guest() const { return reset_count_ > 0 || !table_.empty(); }

  // The guest's driver was reset: ends every connection but those whose request was not sent.
  void driver_reset();

  // --- the host's side --------------------------------------------------------------------------
  // A connection whose request is pending. ResourceExhausted.
  StatusOr<std::shared_ptr<Connection>> connect(uint32_t guest_port);
  Status listen(uint32_t host_port);
  Listener* find_listener(uint32_t host_port);
  // Call after every change from the host's side: puts the connection where its state belongs.
  void settle(Connection* connection);
  // Ends everything with `reason` and wakes every waiter.
  void end_all(const Status& reason);

  uint32_t next_port() const { return next_port_; }
  size_t max_connections() const { return max_connections_; }
  VsockMetrics metrics() const;
  VsockMetrics& counters() { return counters_; }
  // Of all connections in the table; for tests of the bound.
  size_t allocated_bytes() const;

 private:
  using Table = absl::flat_hash_map<uint64_t, std::shared_ptr<Connection>>;

  void receive_request(const PacketHeader& header);
  void count(Verdict verdict);
  // Owes the guest a RST for a packet that belongs to no connection.
  void refuse(const PacketHeader& header);
  // True when there is room for one more, after dropping those that only linger.
  bool make_room();
  std::shared_ptr<Connection> add(PortPair ports, Connection::Origin origin);
  uint32_t take_port(uint32_t guest_port);
  void drop_from_backlog(const Connection& connection);

  struct ResetReply {
    PortPair ports;
    uint16_t type = kTypeStream;

    friend bool operator==(const ResetReply&, const ResetReply&) = default;
  };

  const size_t max_connections_;
  Table table_;
  ReadyList ready_;
  std::map<uint32_t, Listener> listeners_;
  std::array<ResetReply, kMaxPendingResets> resets_;  // a ring
  size_t reset_start_ = 0;
  size_t reset_count_ = 0;
  uint32_t next_port_;
  VsockMetrics counters_;
};

}  // namespace ramet::vsock

#endif  // RAMET_DEVICES_VSOCK_MUXER_H_
