// A byte emitter for the little ACPI machine language (AML) that the machine's DSDT needs (ACPI
// 6.5, chapter 20). Each function returns the encoding of one term; terms are joined by join().
//
// Thread rule: pure functions.
// Invariant: a term built from well-formed terms is well-formed. Arguments are the library's own
// constants, never a guest's or a file's, so they have no error results; package_length() saturates
// nowhere because a table is far below its 2^28 limit.
#ifndef RAMET_VMM_ARCH_X86_64_AML_H_
#define RAMET_VMM_ARCH_X86_64_AML_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace ramet::aml {

using Bytes = std::vector<std::byte>;

Bytes join(std::initializer_list<Bytes> terms);

// PkgLength (20.2.4) for a body of `body_size` bytes; the value counts its own 1 to 4 bytes.
Bytes package_length(size_t body_size);

// A NameString (20.2.2): "_CRS", "\\_SB_" or "\\_SB_.VGEN"; each segment of 1 to 4 characters is
// padded with '_'.
Bytes path(std::string_view text);

// The shortest encoding of `value` (20.2.3).
Bytes integer(uint64_t value);
Bytes string(std::string_view text);
// EISAID("PNP0501") (19.3.4): three letters, four hexadecimal digits.
Bytes eisa_id(std::string_view text);
Bytes buffer(std::span<const std::byte> bytes);
Bytes package(std::initializer_list<Bytes> elements);

Bytes name(std::string_view path_text, const Bytes& object);
Bytes scope(std::string_view path_text, const Bytes& body);
Bytes device(std::string_view path_text, const Bytes& body);
// `arguments` 0 to 7.
Bytes method(std::string_view path_text, uint8_t arguments, const Bytes& body);

Bytes argument(uint8_t index);  // Arg0 to Arg6
Bytes equal(const Bytes& left, const Bytes& right);
Bytes if_then(const Bytes& condition, const Bytes& body);
Bytes notify(std::string_view path_text, uint64_t value);

// A buffer holding resource descriptors (6.4) and the end tag.
Bytes resources(std::initializer_list<Bytes> descriptors);
// IO (Decode16, port, port, 1, size) (6.4.2.5).
Bytes io_port(uint16_t port, uint8_t size);
// IRQ (Edge, ActiveHigh, Exclusive) {line}, line 0 to 15 (6.4.2.1).
Bytes isa_irq(uint8_t line);
// Memory32Fixed (ReadWrite, address, size) (6.4.3.4).
Bytes memory32_fixed(uint32_t address, uint32_t size);
// Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) {gsi} (6.4.3.6).
Bytes edge_interrupt(uint32_t gsi);

}  // namespace ramet::aml

#endif  // RAMET_VMM_ARCH_X86_64_AML_H_
