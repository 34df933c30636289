// The I/O APIC: registers, edges, masks, messages and its saved state.
#include "vmm/arch/x86_64/ioapic.h"

#include <array>
#include <cstring>
#include <random>
#include <thread>

#include <catch2/catch.hpp>

using ramet::x86::Ioapic;
using ramet::x86::IoapicState;
using ramet::x86::MsiMessage;

namespace {

struct Sink : ramet::x86::MsiSink {
  void signal_msi(const MsiMessage& message) override {
    const std::lock_guard lock(mutex);
    messages.push_back(message);
  }
  std::mutex mutex;
  std::vector<MsiMessage> messages;
};

void write(Ioapic& ioapic, uint64_t offset, uint32_t value) {
  ioapic.bus_write(offset, std::as_bytes(std::span(&value, 1)));
}

uint32_t read(Ioapic& ioapic, uint64_t offset) {
  uint32_t value = 0xdeadbeef;
  ioapic.bus_read(offset, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

void set_register(Ioapic& ioapic, uint32_t index, uint32_t value) {
  write(ioapic, 0, index);
  write(ioapic, 0x10, value);
}

uint32_t get_register(Ioapic& ioapic, uint32_t index) {
  write(ioapic, 0, index);
  return read(ioapic, 0x10);
}

void set_entry(Ioapic& ioapic, uint32_t pin, uint64_t entry) {
  set_register(ioapic, 0x11 + 2 * pin, static_cast<uint32_t>(entry >> 32));
  set_register(ioapic, 0x10 + 2 * pin, static_cast<uint32_t>(entry));
}

}  // namespace

TEST_CASE("after reset every pin is masked, and the version says 24 pins and no EOI register") {
  Sink sink;
  Ioapic ioapic(&sink);
  CHECK(get_register(ioapic, 1) == (0x11u | 23u << 16));
  CHECK(get_register(ioapic, 0) == 0);
  for (uint32_t pin = 0; pin < 24; ++pin) {
    CHECK(get_register(ioapic, 0x10 + 2 * pin) == 1u << 16);
    CHECK(get_register(ioapic, 0x11 + 2 * pin) == 0);
    ioapic.pulse(pin);
  }
  CHECK(sink.messages.empty());
  CHECK(ioapic.save().pending == 0xffffff);
}

TEST_CASE("an edge on an unmasked pin is one message with its vector, delivery and destination") {
  Sink sink;
  Ioapic ioapic(&sink);
  set_entry(ioapic, 4, uint64_t{3} << 56 | 0x41);  // fixed, physical, LAPIC 3
  set_entry(ioapic, 5, uint64_t{0xff} << 56 | 1u << 11 | 1u << 8 | 0x52);  // lowest, logical
  set_entry(ioapic, 6, 4u << 8 | 0x60);                                    // NMI
  set_entry(ioapic, 7, 1u << 15 | 1u << 13 | 0x70);  // level, active low: delivered as an edge
  for (uint32_t pin = 4; pin < 8; ++pin) {
    ioapic.pulse(pin);
  }
  REQUIRE(sink.messages.size() == 4);
  CHECK(sink.messages[0] == MsiMessage{0xfee03000, 0x41});
  CHECK(sink.messages[1] == MsiMessage{0xfeeff004, 0x152});
  CHECK(sink.messages[2] == MsiMessage{0xfee00000, 0x460});
  CHECK(sink.messages[3] == MsiMessage{0xfee00000, 0x70});
  CHECK(ioapic.save().pending == 0);
}

TEST_CASE("edges on a masked pin become one message at the unmask, with the entry of that moment") {
  Sink sink;
  Ioapic ioapic(&sink);
  set_entry(ioapic, 9, 1u << 16 | 0x30);
  ioapic.pulse(9);
  ioapic.pulse(9);
  set_register(ioapic, 0x11 + 18, 2u << 24);  // the destination, still masked
  CHECK(sink.messages.empty());
  set_register(ioapic, 0x10 + 18, 0x31);
  REQUIRE(sink.messages.size() == 1);
  CHECK(sink.messages[0] == MsiMessage{0xfee02000, 0x31});
  set_register(ioapic, 0x10 + 18, 0x31);
  CHECK(sink.messages.size() == 1);
  ioapic.pulse(9);
  CHECK(sink.messages.size() == 2);
}

TEST_CASE("read-only and reserved bits stay clear, registers that are not there read as 0") {
  Sink sink;
  Ioapic ioapic(&sink);
  set_register(ioapic, 0x10, ~0u);
  set_register(ioapic, 0x11, ~0u);
  CHECK(get_register(ioapic, 0x10) == (0x1ffffu & ~(1u << 12 | 1u << 14)));
  CHECK(get_register(ioapic, 0x11) == 0xff000000);
  set_register(ioapic, 0, ~0u);
  CHECK(get_register(ioapic, 0) == 0x0f000000);
  CHECK(get_register(ioapic, 2) == 0x0f000000);
  set_register(ioapic, 1, ~0u);
  CHECK(get_register(ioapic, 1) == (0x11u | 23u << 16));
  for (const uint32_t index : {3u, 0xfu, 0x40u, 0x41u, 0xffu}) {
    const IoapicState before = ioapic.save();
    set_register(ioapic, index, 0x12345678);
    CHECK(get_register(ioapic, index) == 0);
    CHECK(ioapic.save().redirection == before.redirection);
  }
  ioapic.pulse(24);
  ioapic.pulse(~0u);
  CHECK(ioapic.save().pending == 0);
}

TEST_CASE("only 32-bit writes count; reads of any size and place give bytes, never garbage") {
  Sink sink;
  Ioapic ioapic(&sink);
  set_register(ioapic, 0x10, 0x1ff);
  const IoapicState before = ioapic.save();
  const std::array<std::byte, 8> ones = {std::byte{1}, std::byte{1}, std::byte{1}, std::byte{1}};
  for (const size_t size : {size_t{1}, size_t{2}, size_t{3}, size_t{8}}) {
    ioapic.bus_write(0x00, std::span(ones).first(size));
    ioapic.bus_write(0x10, std::span(ones).first(size));
  }
  write(ioapic, 0x20, 7);
  write(ioapic, 0xffc, 7);
  CHECK(ioapic.save() == before);
  std::array<std::byte, 8> into;
  into.fill(std::byte{0xee});
  ioapic.bus_read(0x10, into);
  CHECK(into[0] == std::byte{0xff});
  CHECK(into[4] == std::byte{0});
  CHECK(into[7] == std::byte{0});
  CHECK(read(ioapic, 0x40) == 0);
}

TEST_CASE("the saved state makes the same I/O APIC again, pending edges included") {
  Sink sink;
  Ioapic first(&sink);
  set_entry(first, 3, uint64_t{1} << 56 | 1u << 16 | 0x77);
  set_register(first, 0, 5u << 24);
  first.pulse(3);
  write(first, 0, 0x16);
  const auto bytes = ramet::x86::encode_ioapic_state(first.save());
  const auto decoded = ramet::x86::decode_ioapic_state(bytes);
  REQUIRE(decoded.ok());
  CHECK(*decoded == first.save());
  CHECK(ramet::x86::encode_ioapic_state(*decoded) == bytes);
  Ioapic second(&sink, *decoded);
  write(second, 0x10, 0x77);  // IOREGSEL was saved as well
  REQUIRE(sink.messages.size() == 1);
  CHECK(sink.messages[0] == MsiMessage{0xfee01000, 0x77});
}

TEST_CASE("a saved I/O APIC of any other length, pin or register is an error") {
  const auto bytes = ramet::x86::encode_ioapic_state({});
  for (size_t size = 0; size < bytes.size(); ++size) {
    CHECK(ramet::x86::decode_ioapic_state(std::span(bytes).first(size)).status().code() ==
          absl::StatusCode::kDataLoss);
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK(!ramet::x86::decode_ioapic_state(longer).ok());
  IoapicState pins;
  pins.pending = 1u << 24;
  CHECK(!ramet::x86::decode_ioapic_state(ramet::x86::encode_ioapic_state(pins)).ok());
  IoapicState selected;
  selected.selected = 0x100;
  CHECK(!ramet::x86::decode_ioapic_state(ramet::x86::encode_ioapic_state(selected)).ok());
}

TEST_CASE("whatever bytes a state has, what is accepted is what a guest could have written") {
  std::mt19937_64 random(1);
  auto bytes = ramet::x86::encode_ioapic_state({});
  for (int round = 0; round < 2000; ++round) {
    for (std::byte& byte : bytes) {
      byte = static_cast<std::byte>(random());
    }
    bytes[5] = bytes[6] = bytes[7] = std::byte{0};  // IOREGSEL in its bounds
    bytes[bytes.size() - 1] = std::byte{0};         // pending pins too
    const auto state = ramet::x86::decode_ioapic_state(bytes);
    REQUIRE(state.ok());
    for (const uint64_t entry : state->redirection) {
      REQUIRE((entry & ~(uint64_t{0xff} << 56 | 0x1afff)) == 0);
    }
    REQUIRE(*ramet::x86::decode_ioapic_state(ramet::x86::encode_ioapic_state(*state)) == *state);
  }
}

TEST_CASE("edges and register writes from several threads lose no edge") {
  Sink sink;
  Ioapic ioapic(&sink);
  set_entry(ioapic, 2, 0x42);
  constexpr int kEdges = 2000;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kEdges; ++n) {
        ioapic.pulse(2);
      }
    });
  }
  threads.emplace_back([&] {
    for (int n = 0; n < kEdges; ++n) {
      set_register(ioapic, 0x10 + 6, 0x1ffff);
    }
  });
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(sink.messages.size() == 2 * kEdges);
}
