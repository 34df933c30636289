#include "tests/guests/assembler.h"

#include <stdexcept>

namespace ramet::testing {

void Assembler::immediate(uint64_t value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) {
    code_.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
}

void Assembler::address_in_rdi(uint64_t address) {
  bytes({0x48, 0xbf});  // mov rdi, imm64
  immediate(address, 8);
}

void Assembler::move(bool to_memory, unsigned size) {
  const uint8_t direction = to_memory ? 0 : 2;
  switch (size) {
    case 1:
      return bytes({static_cast<uint8_t>(0x88 | direction), 0x07});
    case 2:
      return bytes({0x66, static_cast<uint8_t>(0x89 | direction), 0x07});
    case 4:
      return bytes({static_cast<uint8_t>(0x89 | direction), 0x07});
    case 8:
      return bytes({0x48, static_cast<uint8_t>(0x89 | direction), 0x07});
    default:
      throw std::logic_error("a move of 1, 2, 4 or 8 bytes");
  }
}

void Assembler::store(uint64_t address, uint64_t value, unsigned size) {
  address_in_rdi(address);
  bytes({0x48, 0xb8});  // mov rax, imm64
  immediate(value, 8);
  move(true, size);
}

void Assembler::load(uint64_t address, unsigned size) {
  address_in_rdi(address);
  move(false, size);
}

void Assembler::store_rax(uint64_t address, unsigned size) {
  address_in_rdi(address);
  move(true, size);
}

void Assembler::add16(uint64_t address, uint16_t value) {
  address_in_rdi(address);
  bytes({0x66, 0x81, 0x07});
  immediate(value, 2);
}

void Assembler::add32(uint64_t address, uint32_t value) {
  address_in_rdi(address);
  bytes({0x81, 0x07});
  immediate(value, 4);
}

void Assembler::add64(uint64_t address, uint32_t value) {
  address_in_rdi(address);
  bytes({0x48, 0x81, 0x07});
  immediate(value, 4);
}

void Assembler::jump_back(std::initializer_list<uint8_t> opcode, size_t target) {
  bytes(opcode);
  const auto distance = static_cast<int64_t>(target) - static_cast<int64_t>(here() + 4);
  immediate(static_cast<uint64_t>(distance), 4);
}

size_t Assembler::jump_ahead(std::initializer_list<uint8_t> opcode) {
  bytes(opcode);
  immediate(0, 4);
  return here();
}

void Assembler::land(size_t jump) {
  const auto distance = static_cast<uint32_t>(here() - jump);
  for (unsigned i = 0; i < 4; ++i) {
    code_.at(jump - 4 + i) = static_cast<uint8_t>(distance >> (8 * i));
  }
}

void Assembler::wait_value(uint64_t address, uint32_t value) {
  address_in_rdi(address);
  const size_t again = here();
  bytes({0x8b, 0x07, 0x3d});  // mov eax, [rdi]; cmp eax, imm32
  immediate(value, 4);
  jump_back({0x0f, 0x85}, again);
}

void Assembler::wait_bits(uint64_t address, uint32_t mask) {
  address_in_rdi(address);
  const size_t again = here();
  bytes({0x8b, 0x07, 0x25});  // mov eax, [rdi]; and eax, imm32
  immediate(mask, 4);
  bytes({0x3d});  // cmp eax, imm32
  immediate(mask, 4);
  jump_back({0x0f, 0x85}, again);
}

void Assembler::wait_equal16(uint64_t address, uint64_t other_address) {
  address_in_rdi(address);
  bytes({0x48, 0xbe});  // mov rsi, imm64
  immediate(other_address, 8);
  const size_t again = here();
  bytes({0x66, 0x8b, 0x07, 0x66, 0x3b, 0x06});  // mov ax, [rdi]; cmp ax, [rsi]
  jump_back({0x0f, 0x85}, again);
}

void Assembler::port_in_dx(uint16_t port) {
  bytes({0x66, 0xba});
  immediate(port, 2);
}

void Assembler::out(uint16_t port, uint32_t value, unsigned size) {
  port_in_dx(port);
  bytes({0xb8});  // mov eax, imm32
  immediate(value, 4);
  size == 1 ? bytes({0xee}) : size == 2 ? bytes({0x66, 0xef}) : bytes({0xef});
}

void Assembler::in(uint16_t port, unsigned size) {
  port_in_dx(port);
  size == 1 ? bytes({0xec}) : size == 2 ? bytes({0x66, 0xed}) : bytes({0xed});
}

void Assembler::out_rax_to_random_port(unsigned size) {
  bytes({0x48, 0x89, 0xc2, 0x48, 0xc1, 0xea, 0x20});  // mov rdx, rax; shr rdx, 32
  size == 1 ? bytes({0xee}) : size == 2 ? bytes({0x66, 0xef}) : bytes({0xef});
}

void Assembler::random() {
  bytes({0x48, 0x89, 0xd8, 0x48, 0xc1, 0xe0, 0x0d, 0x48, 0x31, 0xc3});  // rbx ^= rbx << 13
  bytes({0x48, 0x89, 0xd8, 0x48, 0xc1, 0xe8, 0x07, 0x48, 0x31, 0xc3});  // rbx ^= rbx >> 7
  bytes({0x48, 0x89, 0xd8, 0x48, 0xc1, 0xe0, 0x11, 0x48, 0x31, 0xc3});  // rbx ^= rbx << 17
  bytes({0x48, 0x89, 0xd8});                                            // mov rax, rbx
}

void Assembler::random_below(uint32_t mask) {
  random();
  bytes({0x25});  // and eax, imm32; the upper half becomes 0
  immediate(mask, 4);
}

void Assembler::random_address(uint64_t base, uint32_t mask) {
  random_below(mask);
  address_in_rdi(base);
  bytes({0x48, 0x01, 0xc7});  // add rdi, rax
}

void Assembler::random_store(uint64_t base, uint32_t mask, unsigned size) {
  random_address(base, mask);
  random();
  move(true, size);
}

void Assembler::random_load(uint64_t base, uint32_t mask, unsigned size) {
  random_address(base, mask);
  move(false, size);
}

void Assembler::write_msr(uint32_t index, uint64_t value) {
  bytes({0xb9});  // mov ecx, imm32
  immediate(index, 4);
  bytes({0xb8});  // mov eax, imm32
  immediate(value, 4);
  bytes({0xba});  // mov edx, imm32
  immediate(value >> 32, 4);
  bytes({0x0f, 0x30});
}

void Assembler::read_msr(uint32_t index) {
  bytes({0xb9});
  immediate(index, 4);
  bytes({0x0f, 0x32});
}

void Assembler::read_random_msr(uint32_t mask) {
  random_below(mask);
  bytes({0x89, 0xc1, 0x0f, 0x32});  // mov ecx, eax; rdmsr
}

void Assembler::cpuid_random(uint32_t mask) {
  random_below(mask);
  // push rbx; mov ecx, eax; cpuid; pop rbx
  bytes({0x53, 0x89, 0xc1, 0x0f, 0xa2, 0x5b});
}

void Assembler::jump_to(uint64_t address) {
  address_in_rdi(address);
  bytes({0xff, 0xe7});  // jmp rdi
}

void Assembler::forever(const Body& body) {
  const size_t start = here();
  body();
  jump_back({0xe9}, start);
}

void Assembler::repeat(uint64_t times, const Body& body) {
  if (depth_ == 3) {
    throw std::logic_error("at most three loops nest");
  }
  const auto counter = static_cast<uint8_t>(5 + depth_++);  // r13, r14, r15
  bytes({0x49, static_cast<uint8_t>(0xb8 + counter)});      // mov r13, imm64
  immediate(times, 8);
  const size_t start = here();
  body();
  bytes({0x49, 0xff, static_cast<uint8_t>(0xc8 + counter)});  // dec r13
  jump_back({0x0f, 0x85}, start);
  --depth_;
}

}  // namespace ramet::testing
