#include "vmm/arch/x86_64/aml.h"

namespace ramet::aml {
namespace {

// Opcodes of ACPI 6.5, table 20.2.
constexpr uint8_t kZeroOp = 0x00;
constexpr uint8_t kOneOp = 0x01;
constexpr uint8_t kNameOp = 0x08;
constexpr uint8_t kBytePrefix = 0x0A;
constexpr uint8_t kWordPrefix = 0x0B;
constexpr uint8_t kDwordPrefix = 0x0C;
constexpr uint8_t kStringPrefix = 0x0D;
constexpr uint8_t kQwordPrefix = 0x0E;
constexpr uint8_t kScopeOp = 0x10;
constexpr uint8_t kBufferOp = 0x11;
constexpr uint8_t kPackageOp = 0x12;
constexpr uint8_t kMethodOp = 0x14;
constexpr uint8_t kDualNamePrefix = 0x2E;
constexpr uint8_t kMultiNamePrefix = 0x2F;
constexpr uint8_t kExtOpPrefix = 0x5B;
constexpr uint8_t kArg0Op = 0x68;
constexpr uint8_t kDeviceExtOp = 0x82;
constexpr uint8_t kNotifyOp = 0x86;
constexpr uint8_t kEqualOp = 0x93;
constexpr uint8_t kIfOp = 0xA0;
constexpr size_t kSegmentSize = 4;

// Resource descriptor tags of ACPI 6.5, 6.4; a small one has its length in its low three bits.
constexpr uint8_t kIrqTag = 0x23;
constexpr uint8_t kIoPortTag = 0x47;
constexpr uint8_t kEndTag = 0x79;
constexpr uint8_t kMemory32FixedTag = 0x86;
constexpr uint8_t kExtendedInterruptTag = 0x89;

void put(Bytes& into, uint8_t value) { into.push_back(std::byte{value}); }

void put_little_endian(Bytes& into, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    put(into, static_cast<uint8_t>(value >> (8 * i)));
  }
}

void put_all(Bytes& into, std::span<const std::byte> bytes) {
  into.insert(into.end(), bytes.begin(), bytes.end());
}

Bytes prefixed(std::initializer_list<uint8_t> opcode, const Bytes& rest) {
  Bytes result;
  result.reserve(opcode.size() + rest.size());
  for (const uint8_t byte : opcode) {
    put(result, byte);
  }
  put_all(result, rest);
  return result;
}

// opcode, PkgLength, body.
Bytes packaged(std::initializer_list<uint8_t> opcode, const Bytes& body) {
  return prefixed(opcode, join({package_length(body.size()), body}));
}

void put_segment(Bytes& into, std::string_view segment) {
  for (size_t i = 0; i < kSegmentSize; ++i) {
    put(into, static_cast<uint8_t>(i < segment.size() ? segment[i] : '_'));
  }
}

uint32_t hex_digit(char digit) {
  return static_cast<uint32_t>(digit >= 'A' ? digit - 'A' + 10 : digit - '0');
}

}  // namespace

Bytes join(std::initializer_list<Bytes> terms) {
  Bytes result;
  for (const Bytes& term : terms) {
    put_all(result, term);
  }
  return result;
}

Bytes package_length(size_t body_size) {
  // One byte holds up to 63; with n more bytes the first gives n in its top bits and the low four
  // bits of the value, each of the others eight.
  Bytes result;
  if (body_size + 1 <= 0x3F) {
    put(result, static_cast<uint8_t>(body_size + 1));
    return result;
  }
  size_t more = 1;
  while (more < 3 && body_size + 1 + more >= size_t{1} << (4 + 8 * more)) {
    ++more;
  }
  const uint64_t value = body_size + 1 + more;
  put(result, static_cast<uint8_t>(more << 6 | (value & 0xF)));
  put_little_endian(result, value >> 4, more);
  return result;
}

Bytes path(std::string_view text) {
  Bytes result;
  if (text.starts_with('\\')) {
    put(result, '\\');
    text.remove_prefix(1);
  }
  Bytes segments;
  uint8_t count = 0;
  while (!text.empty()) {
    const size_t dot = text.find('.');
    put_segment(segments, text.substr(0, dot));
    text.remove_prefix(dot == std::string_view::npos ? text.size() : dot + 1);
    ++count;
  }
  if (count == 0) {
    put(result, kZeroOp);  // NullName: the root itself
  } else if (count == 2) {
    put(result, kDualNamePrefix);
  } else if (count > 2) {
    put(result, kMultiNamePrefix);
    put(result, count);
  }
  put_all(result, segments);
  return result;
}

Bytes integer(uint64_t value) {
  Bytes result;
  if (value <= 1) {
    put(result, value == 0 ? kZeroOp : kOneOp);
  } else if (value <= 0xFF) {
    put(result, kBytePrefix);
    put_little_endian(result, value, 1);
  } else if (value <= 0xFFFF) {
    put(result, kWordPrefix);
    put_little_endian(result, value, 2);
  } else if (value <= 0xFFFF'FFFF) {
    put(result, kDwordPrefix);
    put_little_endian(result, value, 4);
  } else {
    put(result, kQwordPrefix);
    put_little_endian(result, value, 8);
  }
  return result;
}

Bytes string(std::string_view text) {
  Bytes result;
  put(result, kStringPrefix);
  put_all(result, std::as_bytes(std::span(text)));
  put(result, 0);
  return result;
}

Bytes eisa_id(std::string_view text) {
  // Big-endian: five bits a letter from 'A' = 1, four bits a digit; stored as a byte-swapped DWord.
  uint32_t value = 0;
  for (const char letter : text.substr(0, 3)) {
    value = value << 5 | static_cast<uint32_t>(letter - 'A' + 1);
  }
  for (const char digit : text.substr(3, 4)) {
    value = value << 4 | hex_digit(digit);
  }
  Bytes result;
  put(result, kDwordPrefix);
  put_little_endian(result, __builtin_bswap32(value), 4);
  return result;
}

Bytes buffer(std::span<const std::byte> bytes) {
  Bytes body = integer(bytes.size());
  put_all(body, bytes);
  return packaged({kBufferOp}, body);
}

Bytes package(std::initializer_list<Bytes> elements) {
  return packaged({kPackageOp}, prefixed({static_cast<uint8_t>(elements.size())}, join(elements)));
}

Bytes name(std::string_view path_text, const Bytes& object) {
  return prefixed({kNameOp}, join({path(path_text), object}));
}

Bytes scope(std::string_view path_text, const Bytes& body) {
  return packaged({kScopeOp}, join({path(path_text), body}));
}

Bytes device(std::string_view path_text, const Bytes& body) {
  return packaged({kExtOpPrefix, kDeviceExtOp}, join({path(path_text), body}));
}

Bytes method(std::string_view path_text, uint8_t arguments, const Bytes& body) {
  constexpr uint8_t kSerialized = 1 << 3;
  return packaged(
      {kMethodOp},
      join({path(path_text), prefixed({static_cast<uint8_t>(arguments | kSerialized)}, {}), body}));
}

Bytes argument(uint8_t index) { return prefixed({static_cast<uint8_t>(kArg0Op + index)}, {}); }

Bytes equal(const Bytes& left, const Bytes& right) {
  return prefixed({kEqualOp}, join({left, right}));
}

Bytes if_then(const Bytes& condition, const Bytes& body) {
  return packaged({kIfOp}, join({condition, body}));
}

Bytes notify(std::string_view path_text, uint64_t value) {
  return prefixed({kNotifyOp}, join({path(path_text), integer(value)}));
}

Bytes resources(std::initializer_list<Bytes> descriptors) {
  // A zero checksum in the end tag counts as correct (6.4.2.9); iasl writes it so too.
  Bytes body = join(descriptors);
  put(body, kEndTag);
  put(body, 0);
  return buffer(body);
}

Bytes io_port(uint16_t port, uint8_t size) {
  Bytes result;
  put(result, kIoPortTag);
  put(result, 1);  // decodes 16 bits
  put_little_endian(result, port, 2);
  put_little_endian(result, port, 2);
  put(result, 1);  // alignment
  put(result, size);
  return result;
}

Bytes isa_irq(uint8_t line) {
  Bytes result;
  put(result, kIrqTag);
  put_little_endian(result, uint64_t{1} << line, 2);
  put(result, 1);  // edge; bits 3 and 4 clear: active high, exclusive
  return result;
}

Bytes memory32_fixed(uint32_t address, uint32_t size) {
  Bytes result;
  put(result, kMemory32FixedTag);
  put_little_endian(result, 9, 2);
  put(result, 1);  // read-write
  put_little_endian(result, address, 4);
  put_little_endian(result, size, 4);
  return result;
}

Bytes edge_interrupt(uint32_t gsi) {
  Bytes result;
  put(result, kExtendedInterruptTag);
  put_little_endian(result, 6, 2);
  put(result, 3);  // consumer, edge; bits 2 and 3 clear: active high, exclusive
  put(result, 1);  // one line
  put_little_endian(result, gsi, 4);
  return result;
}

}  // namespace ramet::aml
