#include "devices/vsock/muxer.h"

#include <algorithm>
#include <vector>

#include <absl/strings/str_format.h>

namespace ramet::vsock {

uint32_t advance_port(uint32_t port, uint32_t offset) {
  const uint64_t place = (port < kFirstDynamicPort ? 0 : port - kFirstDynamicPort);
  return static_cast<uint32_t>((place + offset) % kDynamicPorts) + kFirstDynamicPort;
}

void ReadyList::append(Connection* connection) {
  if (connection->ready_listed_) {
    return;
  }
  connection->ready_listed_ = true;
  connection->ready_next_ = nullptr;
  connection->ready_previous_ = last_;
  (last_ == nullptr ? first_ : last_->ready_next_) = connection;
  last_ = connection;
}

void ReadyList::remove(Connection* connection) {
  if (!connection->ready_listed_) {
    return;
  }
  Connection* const next = connection->ready_next_;
  Connection* const previous = connection->ready_previous_;
  (previous == nullptr ? first_ : previous->ready_next_) = next;
  (next == nullptr ? last_ : next->ready_previous_) = previous;
  connection->ready_listed_ = false;
}

bool Muxer::receive(const PacketHeader& header, uint64_t payload_bytes, PayloadSource payload) {
  ++counters_.tx_packets;
  if (header.src_cid != kGuestCid || header.dst_cid != kHostCid) {
    ++counters_.foreign_cid;  // 5.10.6.2; there is no address to answer to
    return false;
  }
  if (header.type != kTypeStream) {
    ++counters_.malformed;
    refuse(header);  // 5.10.6.4: a packet of unknown type is answered by RST
    return false;
  }
  counters_.resets_received += header.op == Op::kRst ? 1 : 0;
  const auto found = table_.find(PortPair{header.dst_port, header.src_port}.key());
  if (found == table_.end()) {
    if (header.op == Op::kRequest) {
      receive_request(header);
    } else {
      refuse(header);
    }
    return false;
  }
  const std::shared_ptr<Connection> connection = found->second;
  PacketHeader checked = header;
  if (header.op == Op::kRw && header.len > payload_bytes) {
    checked.op = Op::kInvalid;  // its bytes are not there: no operation of a stream
  }
  const bool taken = connection->phase() != Connection::Phase::kDone;
  const Verdict verdict = connection->receive(checked, payload);
  count(verdict);
  if (verdict == Verdict::kTaken && taken && header.op == Op::kRw) {
    counters_.tx_bytes += header.len;
  }
  settle(connection.get());
  return connection->origin() == Connection::Origin::kHost;
}

void Muxer::receive_request(const PacketHeader& header) {
  const auto listener = listeners_.find(header.dst_port);
  if (listener == listeners_.end() || listener->second.backlog.size() >= kMaxBacklog ||
      !make_room()) {
    ++counters_.refused;
    refuse(header);
    return;
  }
  const auto connection =
      add(PortPair{header.dst_port, header.src_port}, Connection::Origin::kGuest);
  const Verdict verdict = connection->accept_request(header);
  count(verdict);
  if (verdict == Verdict::kTaken) {
    listener->second.backlog.push_back(connection);
    listener->second.changed.notify_all();
  }
  settle(connection.get());
}

void Muxer::count(Verdict verdict) {
  counters_.malformed += verdict == Verdict::kMalformed ? 1 : 0;
  counters_.credit_violations += verdict == Verdict::kCreditViolation ? 1 : 0;
}

void Muxer::refuse(const PacketHeader& header) {
  const ResetReply reply{PortPair{header.dst_port, header.src_port}, header.type};
  // A RST is never answered: two ends that both did would never stop.
  if (header.op == Op::kRst) {
    return;
  }
  for (size_t i = 0; i < reset_count_; ++i) {
    if (resets_[(reset_start_ + i) % kMaxPendingResets] == reply) {
      return;
    }
  }
  resets_[(reset_start_ + reset_count_) % kMaxPendingResets] = reply;
  ++reset_count_;
}

OutPacket Muxer::next_output(uint32_t max_payload) const {
  if (reset_count_ == 0) {
    return ready_.front()->next_output(max_payload);
  }
  const ResetReply& reply = resets_[reset_start_];
  OutPacket packet;
  packet.header.src_cid = kHostCid;
  packet.header.dst_cid = kGuestCid;
  packet.header.src_port = reply.ports.host;
  packet.header.dst_port = reply.ports.guest;
  packet.header.type = reply.type;
  packet.header.op = Op::kRst;
  return packet;
}

void Muxer::output_sent(const OutPacket& packet) {
  ++counters_.rx_packets;
  counters_.rx_bytes += packet.header.len;
  counters_.resets_sent += packet.header.op == Op::kRst ? 1 : 0;
  if (reset_count_ > 0) {
    reset_start_ = (reset_start_ + 1) % kMaxPendingResets;
    --reset_count_;
    return;
  }
  Connection* const connection = ready_.front();
  connection->output_sent(packet);
  ready_.remove(connection);  // to the end, if it has more: every connection gets its turn
  settle(connection);
}

void Muxer::settle(Connection* connection) {
  if (connection->gone()) {
    ready_.remove(connection);
    drop_from_backlog(*connection);
    const auto found = table_.find(connection->ports().key());
    if (found != table_.end() && found->second.get() == connection) {
      table_.erase(found);
    }
  } else if (connection->has_output()) {
    ready_.append(connection);
  } else {
    ready_.remove(connection);
  }
}

void Muxer::drop_from_backlog(const Connection& connection) {
  // One that the guest closed in order, with data, may still be accepted and read.
  const auto listener = listeners_.find(connection.ports().host);
  if (listener != listeners_.end() && !connection.error().ok()) {
    std::erase_if(listener->second.backlog,
                  [&](const auto& waiting) { return waiting.get() == &connection; });
  }
}

bool Muxer::make_room() {
  if (table_.size() >= max_connections_) {
    absl::erase_if(table_, [&](const auto& entry) {
      Connection* const connection = entry.second.get();
      if (!connection->lingers()) {
        return false;
      }
      ready_.remove(connection);
      connection->end(absl::CancelledError("the host closed the connection"));
      return true;
    });
  }
  return table_.size() < max_connections_;
}

std::shared_ptr<Connection> Muxer::add(PortPair ports, Connection::Origin origin) {
  auto connection = std::make_shared<Connection>(ports, origin);
  table_.emplace(ports.key(), connection);
  ++counters_.connections_made;
  settle(connection.get());
  return connection;
}

uint32_t Muxer::take_port(uint32_t guest_port) {
  // Ports rise and come round only after 2^32: Linux keeps a reset socket in its table until its
  // owner closes it, and answers a new request from the same port by RST. The loop ends, as at most
  // kMaxConnections + kMaxListeners ports are taken.
  while (true) {
    const uint32_t port = next_port_;
    next_port_ = advance_port(next_port_, 1);
    if (!listeners_.contains(port) && !table_.contains(PortPair{port, guest_port}.key())) {
      return port;
    }
  }
}

StatusOr<std::shared_ptr<Connection>> Muxer::connect(uint32_t guest_port) {
  if (!make_room()) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "connect to guest port %d: %d connections are open, the limit", guest_port, table_.size()));
  }
  return add(PortPair{take_port(guest_port), guest_port}, Connection::Origin::kHost);
}

Status Muxer::listen(uint32_t host_port) {
  if (listeners_.contains(host_port)) {
    return absl::AlreadyExistsError(absl::StrFormat("listen on vsock port %d again", host_port));
  }
  if (listeners_.size() >= kMaxListeners) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "listen on vsock port %d: %d ports listen, the limit", host_port, listeners_.size()));
  }
  listeners_.try_emplace(host_port);
  return Status();
}

Listener* Muxer::find_listener(uint32_t host_port) {
  const auto found = listeners_.find(host_port);
  return found == listeners_.end() ? nullptr : &found->second;
}

void Muxer::driver_reset() {
  reset_count_ = 0;
  std::vector<std::shared_ptr<Connection>> ended;
  for (const auto& [key, connection] : table_) {
    if (!connection->unsent_request()) {
      ended.push_back(connection);
    }
  }
  for (const auto& connection : ended) {
    connection->end(absl::UnavailableError("the guest reset its vsock device"));
    settle(connection.get());
  }
}

void Muxer::end_all(const Status& reason) {
  reset_count_ = 0;
  // Streams keep their connections; without the table nothing reaches these any more.
  const Table table = std::exchange(table_, {});
  for (const auto& [key, connection] : table) {
    ready_.remove(connection.get());
    connection->end(reason);
  }
  for (auto& [port, listener] : listeners_) {
    listener.backlog.clear();
    listener.changed.notify_all();
  }
}

VsockMetrics Muxer::metrics() const {
  VsockMetrics metrics = counters_;
  metrics.connections = table_.size();
  return metrics;
}

size_t Muxer::allocated_bytes() const {
  size_t total = 0;
  for (const auto& [key, connection] : table_) {
    total += connection->allocated_bytes();
  }
  return total;
}

}  // namespace ramet::vsock
