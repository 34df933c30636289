#include "devices/vsock/packet.h"

#include <type_traits>

namespace ramet::vsock {
namespace {

// Little-endian fields one after the other (virtio 1.2, 1.4).
class FieldReader {
 public:
  explicit FieldReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T next() {
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value |= std::to_integer<uint64_t>(bytes_[position_ + i]) << (8 * i);
    }
    position_ += sizeof(T);
    return static_cast<T>(value);
  }

 private:
  std::span<const std::byte> bytes_;
  size_t position_ = 0;
};

class FieldWriter {
 public:
  explicit FieldWriter(std::span<std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  void next(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_[position_ + i] = static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i));
    }
    position_ += sizeof(T);
  }

 private:
  std::span<std::byte> bytes_;
  size_t position_ = 0;
};

}  // namespace

PacketHeader decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  FieldReader fields(bytes);
  PacketHeader header;
  header.src_cid = fields.next<uint64_t>();
  header.dst_cid = fields.next<uint64_t>();
  header.src_port = fields.next<uint32_t>();
  header.dst_port = fields.next<uint32_t>();
  header.len = fields.next<uint32_t>();
  header.type = fields.next<uint16_t>();
  header.op = static_cast<Op>(fields.next<uint16_t>());
  header.flags = fields.next<uint32_t>();
  header.buf_alloc = fields.next<uint32_t>();
  header.fwd_cnt = fields.next<uint32_t>();
  return header;
}

std::array<std::byte, kHeaderBytes> encode_header(const PacketHeader& header) {
  std::array<std::byte, kHeaderBytes> bytes;
  FieldWriter fields(bytes);
  fields.next(header.src_cid);
  fields.next(header.dst_cid);
  fields.next(header.src_port);
  fields.next(header.dst_port);
  fields.next(header.len);
  fields.next(header.type);
  fields.next(static_cast<uint16_t>(header.op));
  fields.next(header.flags);
  fields.next(header.buf_alloc);
  fields.next(header.fwd_cnt);
  return bytes;
}

}  // namespace ramet::vsock
