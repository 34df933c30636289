// PacketHeader: the 44 bytes that begin every packet of a virtio socket device, in both directions.
//
// Thread rule: plain values and pure functions.
// Invariant: decode_header() and encode_header() are inverse; a header is decoded from a copy,
// never from guest memory.
#ifndef RAMET_DEVICES_VSOCK_PACKET_H_
#define RAMET_DEVICES_VSOCK_PACKET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ramet::vsock {

inline constexpr size_t kHeaderBytes = 44;  // virtio 1.2, 5.10.6
inline constexpr uint64_t kHostCid = 2;     // 5.10.4
// The same in every machine: packets never leave the sandbox, and 3 is the first CID a guest may
// have (5.10.4).
inline constexpr uint64_t kGuestCid = 3;

// 5.10.6: operations.
enum class Op : uint16_t {
  kInvalid = 0,
  kRequest = 1,
  kResponse = 2,
  kRst = 3,
  kShutdown = 4,
  kRw = 5,
  kCreditUpdate = 6,
  kCreditRequest = 7,
};

inline constexpr uint16_t kTypeStream = 1;  // 5.10.6: socket types

// 5.10.6.5: flags of Op::kShutdown. The sender of the packet will receive, or send, no more.
inline constexpr uint32_t kShutdownReceive = 1;
inline constexpr uint32_t kShutdownSend = 2;
inline constexpr uint32_t kShutdownBoth = kShutdownReceive | kShutdownSend;

// 5.10.6.7: the only event there is.
inline constexpr uint32_t kEventTransportReset = 0;

struct PacketHeader {
  uint64_t src_cid = 0;
  uint64_t dst_cid = 0;
  uint32_t src_port = 0;
  uint32_t dst_port = 0;
  uint32_t len = 0;  // payload behind the header
  uint16_t type = 0;
  Op op = Op::kInvalid;  // any number when it comes from the guest
  uint32_t flags = 0;
  uint32_t buf_alloc = 0;  // 5.10.6.3: the sender's receive buffer in bytes
  uint32_t fwd_cnt = 0;    // bytes that the sender's application has taken from it so far

  friend bool operator==(const PacketHeader&, const PacketHeader&) = default;
};

PacketHeader decode_header(std::span<const std::byte, kHeaderBytes> bytes);
std::array<std::byte, kHeaderBytes> encode_header(const PacketHeader& header);

// The two ports that name a connection: both CIDs are constant.
struct PortPair {
  uint32_t host = 0;
  uint32_t guest = 0;

  constexpr uint64_t key() const { return uint64_t{host} << 32 | guest; }
  friend bool operator==(const PortPair&, const PortPair&) = default;
};

}  // namespace ramet::vsock

#endif  // RAMET_DEVICES_VSOCK_PACKET_H_
