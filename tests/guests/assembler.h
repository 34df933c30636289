// Assembler: the few instructions of which hand-made hostile guests are made, as 64-bit machine
// code.
//
// Thread rule: one thread.
// Invariant: uses rax, rcx, rdx, rsi, rdi as scratch; rbx is the state of random(); r12 belongs to
// the program; r13 to r15 count loops, so that at most three nest. What
// cannot fail in a sound guest throws.
#ifndef RAMET_TESTS_GUESTS_ASSEMBLER_H_
#define RAMET_TESTS_GUESTS_ASSEMBLER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

namespace ramet::testing {

class Assembler {
 public:
  using Body = std::function<void()>;

  // --- memory, by absolute address ---
  void store(uint64_t address, uint64_t value, unsigned size);
  void store32(uint64_t address, uint32_t value) { store(address, value, 4); }
  void load(uint64_t address, unsigned size);       // into rax
  void store_rax(uint64_t address, unsigned size);  // as random() left it, for one
  void add16(uint64_t address, uint16_t value);
  void add32(uint64_t address, uint32_t value);
  void add64(uint64_t address, uint32_t value);

  // --- waiting, by spinning ---
  void wait_value(uint64_t address, uint32_t value);  // of 4 bytes
  void wait_bits(uint64_t address, uint32_t mask);    // of 4 bytes: all of them set
  void wait_equal16(uint64_t address, uint64_t other_address);

  // --- ports ---
  void out(uint16_t port, uint32_t value, unsigned size);
  void in(uint16_t port, unsigned size);
  void out_rax_to_random_port(unsigned size);  // rax from random(); the port from its upper bits

  // --- random numbers: xorshift64, the same in every run ---
  void random();                     // rax
  void random_below(uint32_t mask);  // eax = random & mask
  // A store, or a load, of `size` random bytes at base + (random & mask).
  void random_store(uint64_t base, uint32_t mask, unsigned size);
  void random_load(uint64_t base, uint32_t mask, unsigned size);

  // --- the processor ---
  void write_msr(uint32_t index, uint64_t value);
  void read_msr(uint32_t index);
  void read_random_msr(uint32_t mask);
  void cpuid_random(uint32_t mask);
  void jump_to(uint64_t address);
  void halt() { bytes({0xf4}); }
  void interrupts_on() { bytes({0xfb}); }
  void interrupts_off() { bytes({0xfa}); }
  void invalid_opcode() { bytes({0x0f, 0x0b}); }
  void bytes(std::initializer_list<uint8_t> code) { code_.insert(code_.end(), code); }
  void immediate(uint64_t value, unsigned size);

  // --- control ---
  void forever(const Body& body);
  void repeat(uint64_t times, const Body& body);

  size_t here() const { return code_.size(); }
  // A near jump back to `target`, of this kind: {0xe9} always, {0x0f, 0x85} if not equal...
  void jump_back(std::initializer_list<uint8_t> opcode, size_t target);

  // The same ahead, to where land() is called with what this returned.
  size_t jump_ahead(std::initializer_list<uint8_t> opcode);
  void land(size_t jump);

  std::span<const uint8_t> code() const { return code_; }

 private:
  void address_in_rdi(uint64_t address);
  void port_in_dx(uint16_t port);
  // mov of `size` bytes between rax and what rdi points to.
  void move(bool to_memory, unsigned size);
  void random_address(uint64_t base, uint32_t mask);

  std::vector<uint8_t> code_;
  unsigned depth_ = 0;
};

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_ASSEMBLER_H_
