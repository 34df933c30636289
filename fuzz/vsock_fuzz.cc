// Fuzz target: the vsock muxer and its connections. The input is a program of steps of a hostile
// guest (packets, receive buffers), of the host (connect, accept, read, write, close) and of the
// machine (driver reset). A model beside it knows what each side may send.
//
// What must hold: no byte goes to the guest beyond the credit it gave; bytes arrive in order in
// both directions; buffers stay within their bounds; only the guest's well-formed data is taken;
// what is owed to the guest is finite.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "devices/vsock/connection.h"
#include "devices/vsock/muxer.h"
#include "devices/vsock/packet.h"
#include "devices/vsock/state.h"

namespace {

using namespace ramet;
using namespace ramet::vsock;

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  uint8_t byte() {
    if (bytes_.empty()) {
      return 0;
    }
    const uint8_t value = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return value;
  }
  uint32_t word() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      value |= uint32_t{byte()} << (8 * i);
    }
    return value;
  }
  // Sizes of interest, from one byte; the large ones cost time, so an input has only so many.
  uint32_t size() {
    uint8_t value = byte();
    if (value >= 0xf8 && large_++ >= 12) {
      value = 0x77;
    }
    constexpr std::array<uint32_t, 8> kSizes = {0,     4096,   65536,  65535,
                                                65537, 200000, 262144, 262145};
    return value < 0xf8 ? value : kSizes[value - 0xf8];
  }

 private:
  std::span<const uint8_t> bytes_;
  int large_ = 0;
};

// What every stream carries: its n-th byte is kBytes[n % kPeriod], for any n and length in one
// piece.
constexpr size_t kPeriod = 65536;
constexpr size_t kLargest = 1u << 20;

std::span<const std::byte> pattern(uint64_t offset, size_t bytes) {
  static const std::vector<std::byte> table = [] {
    std::vector<std::byte> filled(kPeriod + kLargest);
    for (size_t i = 0; i < filled.size(); ++i) {
      filled[i] = static_cast<std::byte>(i % kPeriod * 31 + (i % kPeriod >> 8));
    }
    return filled;
  }();
  return std::span(table).subspan(offset % kPeriod, bytes);
}

bool matches(std::span<const std::byte> bytes, uint64_t offset) {
  return bytes.empty() ||
         std::memcmp(bytes.data(), pattern(offset, bytes.size()).data(), bytes.size()) == 0;
}

// Reads go here; making it anew for each would be most of the work.
std::span<std::byte> scratch() {
  static std::vector<std::byte> bytes(kLargest);
  return bytes;
}

struct Stream {
  std::shared_ptr<Connection> connection;
  uint64_t from_guest = 0;  // bytes taken from the guest
  uint64_t read = 0;
  uint64_t written = 0;
  uint64_t to_guest = 0;
  // As the guest said them.
  uint64_t acknowledged = 0;
  uint32_t buf_alloc = 0;
  bool held = false;  // by the host, which has not closed it
};

class Machine {
 public:
  explicit Machine(Input input) : input_(input) {}

  void run() {
    for (int steps = 0; !input_.empty() && steps < 1000; ++steps) {
      step();
      require(muxer_.metrics().connections <= kMaxConnections);
      if (steps % kStepsBetweenSums == 0) {
        check_buffers();
      }
    }
    check_buffers();
    emit(1u << 16, 65536);
    require(!muxer_.has_output());
    muxer_.end_all(absl::CancelledError("over"));
    require(muxer_.metrics().connections == 0 && !muxer_.has_output());
    for (auto& [key, stream] : streams_) {
      read(*stream, kLargest);
    }
  }

 private:
  // Going over all connections after each step would be most of the work.
  static constexpr int kStepsBetweenSums = 32;

  void step() {
    switch (input_.byte() % 14) {
      case 0:
        guest_raw_packet();
        break;
      case 1:
      case 2:
      case 3:
      case 4:
        guest_packet();
        break;
      case 5:
      case 6: {
        const uint32_t count = input_.byte() % 64;
        emit(count, 1 + input_.size());
        break;
      }
      case 7:
        connect();
        break;
      case 8:
        accept();
        break;
      case 9:
        write(input_.size());
        break;
      case 10:
        if (Stream* stream = pick_held()) {
          read(*stream, input_.size());
        }
        break;
      case 11:
        end_stream();
        break;
      case 12:
        (void)muxer_.listen(1025 + input_.byte() % 24);
        break;
      default:
        if (input_.byte() == 0xff) {
          muxer_.driver_reset();
        }
        break;
    }
  }

  PortPair ports() {
    const uint8_t choice = input_.byte();
    const uint32_t guest = 1024 + choice % 4;
    const uint32_t host =
        choice < 0xc0 ? kFirstDynamicPort + choice / 4 % 16 : 1025 + choice / 4 % 4;
    return {host, guest};
  }

  void guest_raw_packet() {
    std::array<std::byte, kHeaderBytes> bytes;
    for (std::byte& byte : bytes) {
      byte = std::byte{input_.byte()};
    }
    const PacketHeader header = decode_header(bytes);
    require(encode_header(header) == bytes);
    guest_sends(header, input_.size());
  }

  void guest_packet() {
    const PortPair pair = ports();
    PacketHeader header;
    header.src_cid = kGuestCid;
    header.dst_cid = kHostCid;
    header.src_port = pair.guest;
    header.dst_port = pair.host;
    header.type = kTypeStream;
    const uint8_t kind = input_.byte();
    header.op = static_cast<Op>(kind % 9);
    header.flags = kind / 9 % 4;
    header.len = header.op == Op::kRw ? input_.size() : 0;
    const Stream* stream = find(pair);
    const uint8_t credit = input_.byte();
    header.buf_alloc = credit < 0x20 ? credit : credit < 0xf0 ? uint32_t{credit} << 12 : 0xffffffff;
    header.fwd_cnt = stream == nullptr ? 0 : static_cast<uint32_t>(stream->acknowledged);
    if (stream != nullptr && credit % 4 == 1) {  // all it has
      header.fwd_cnt = static_cast<uint32_t>(stream->to_guest);
    } else if (credit % 16 == 2) {  // lies
      header.fwd_cnt = input_.word();
    }
    const bool lies = credit % 64 == 3;
    guest_sends(header, lies ? input_.size() : header.len);
  }

  Stream* find(PortPair pair) {
    const auto found = streams_.find(pair.key());
    return found == streams_.end() ? nullptr : found->second.get();
  }

  void guest_sends(const PacketHeader& header, uint32_t payload_bytes) {
    if (!muxer_.can_receive()) {
      return;
    }
    const PortPair pair{header.dst_port, header.src_port};
    Stream* stream = find(pair);
    const size_t before = received(stream);
    const bool was_done =
        stream == nullptr || stream->connection->phase() == Connection::Phase::kDone;
    uint64_t offset = stream == nullptr ? 0 : stream->from_guest;
    uint64_t copied = 0;
    const uint64_t made = muxer_.metrics().connections_made;
    muxer_.receive(header, payload_bytes, [&](std::span<std::byte> into) {
      copied += into.size();
      require(copied <= payload_bytes && copied <= header.len);
      const auto bytes = pattern(offset, into.size());
      std::memcpy(into.data(), bytes.data(), bytes.size());
      offset += into.size();
      return Status();
    });
    if (stream != nullptr) {
      const size_t after = received(stream);
      require(after == before || (header.op == Op::kRw && after == before + header.len));
      stream->from_guest += after - before;
      if (!was_done) {
        learn_credit(*stream, header);
      }
    }
    if (muxer_.metrics().connections_made != made) {
      adopt(header);
    }
  }

  // Bytes of the guest that wait for the host.
  static size_t received(const Stream* stream) {
    return stream == nullptr ? 0 : stream->connection->unread_bytes();
  }

  void learn_credit(Stream& stream, const PacketHeader& header) {
    const auto advance = header.fwd_cnt - static_cast<uint32_t>(stream.acknowledged);
    const uint64_t in_flight = stream.to_guest - stream.acknowledged;
    if (header.op == Op::kRst || header.src_cid != kGuestCid || header.dst_cid != kHostCid ||
        header.type != kTypeStream) {
      return;
    }
    if (advance <= in_flight) {
      stream.acknowledged += advance;
    } else if (advance < (1u << 31)) {
      require(stream.connection->phase() == Connection::Phase::kDone);
    }
    stream.buf_alloc = std::min(header.buf_alloc, kMaxPeerBufferBytes);
  }

  // A connection that the guest has just made; not in the backlog if it lied about its credit.
  void adopt(const PacketHeader& header) {
    const PortPair pair{header.dst_port, header.src_port};
    const Listener* listener = muxer_.find_listener(header.dst_port);
    require(listener != nullptr && header.op == Op::kRequest);
    if (listener->backlog.empty() || listener->backlog.back()->ports() != pair ||
        listener->backlog.back()->phase() == Connection::Phase::kDone) {
      require(header.fwd_cnt != 0);
      return;
    }
    auto stream = std::make_unique<Stream>();
    stream->connection = listener->backlog.back();
    stream->buf_alloc = std::min(header.buf_alloc, kMaxPeerBufferBytes);
    streams_[pair.key()] = std::move(stream);
  }

  // Gives the guest's buffers to the muxer.
  void emit(uint32_t count, uint32_t capacity) {
    for (; count > 0 && muxer_.has_output(); --count) {
      const OutPacket packet = muxer_.next_output(capacity);
      check_output(packet, capacity);
      muxer_.output_sent(packet);
    }
  }

  void check_output(const OutPacket& packet, uint32_t capacity) {
    const PacketHeader& header = packet.header;
    require(header.src_cid == kHostCid && header.dst_cid == kGuestCid);
    require(header.op != Op::kInvalid && header.op <= Op::kCreditRequest);
    require(header.type == kTypeStream || header.op == Op::kRst);
    require(header.len == packet.payload[0].size() + packet.payload[1].size());
    require(header.len <= capacity && (header.len != 0) == (header.op == Op::kRw));
    if (header.op != Op::kRw) {
      return;
    }
    Stream* stream = find({header.src_port, header.dst_port});
    require(stream != nullptr);
    for (const auto part : packet.payload) {
      require(matches(part, stream->to_guest));
      stream->to_guest += part.size();
    }
    require(stream->to_guest <= stream->written);
    require(stream->to_guest - stream->acknowledged <= stream->buf_alloc);
  }

  void connect() {
    auto connection = muxer_.connect(1024 + input_.byte() % 4);
    if (connection.ok()) {
      auto stream = std::make_unique<Stream>();
      stream->connection = *connection;
      stream->held = true;
      const uint64_t key = (*connection)->ports().key();
      require(!streams_.contains(key) || streams_[key]->connection->gone());
      streams_[key] = std::move(stream);
    }
  }

  void accept() {
    Listener* listener = muxer_.find_listener(1025 + input_.byte() % 4);
    if (listener == nullptr || listener->backlog.empty()) {
      return;
    }
    const auto connection = listener->backlog.front();
    listener->backlog.pop_front();
    // The guest may have made another connection of the same ports since.
    Stream* stream = find(connection->ports());
    if (stream != nullptr && stream->connection == connection) {
      stream->held = true;
    }
  }

  Stream* pick_held() {
    const uint8_t choice = input_.byte();
    if (streams_.empty()) {
      return nullptr;
    }
    auto at = streams_.begin();
    std::advance(at, choice % streams_.size());
    return at->second->held ? at->second.get() : nullptr;
  }

  void write(uint32_t bytes) {
    Stream* stream = pick_held();
    if (stream == nullptr) {
      return;
    }
    const auto done = stream->connection->try_write(pattern(stream->written, bytes));
    stream->written += done.ok() ? done->bytes : 0;
    muxer_.settle(stream->connection.get());
  }

  void read(Stream& stream, uint32_t bytes) {
    const auto done = stream.connection->try_read(scratch().first(bytes));
    if (done.ok()) {
      require(matches(scratch().first(done->bytes), stream.read));
      stream.read += done->bytes;
      require(stream.read <= stream.from_guest);
    }
    muxer_.settle(stream.connection.get());
  }

  void end_stream() {
    Stream* stream = pick_held();
    if (stream == nullptr) {
      return;
    }
    switch (input_.byte() % 3) {
      case 0:
        (void)stream->connection->shutdown_write();
        break;
      case 1:
        stream->connection->close();
        stream->held = false;
        break;
      default:
        stream->connection->drop();
        stream->held = false;
        break;
    }
    muxer_.settle(stream->connection.get());
  }

  void check_buffers() {
    require(muxer_.allocated_bytes() <=
            muxer_.metrics().connections * (kReceiveBufferBytes + kTransmitBufferBytes));
  }

  Input input_;
  Muxer muxer_{kFirstDynamicPort};
  std::map<uint64_t, std::unique_ptr<Stream>> streams_;
};

// The device's saved state: bytes that decode are exactly what is encoded again.
void check_state(std::span<const uint8_t> input) {
  const auto bytes = std::as_bytes(input);
  const auto state = decode_vsock_state(bytes);
  if (state.ok()) {
    const auto again = encode_vsock_state(*state);
    require(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_state({data, size});
  Machine(Input({data, size})).run();
  return 0;
}
