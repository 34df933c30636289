// A vCPU's state as bytes: back as it was, and hostile bytes refused.
#include <cstring>

#include <catch2/catch.hpp>

#include "vmm/kvm/capabilities.h"
#include "vmm/kvm/vcpu_state.h"

using ramet::decode_vcpu_state;
using ramet::encode_vcpu_state;
using ramet::VcpuState;

namespace {

// Where the XSAVE bytes' length and the MSRs' count stand.
constexpr size_t kXsaveLength = 144 + 320 + 392;
constexpr size_t kMsrCount = kXsaveLength + 4 + 4096;

VcpuState sample() {
  VcpuState state;
  std::memset(&state.registers.general, 0x11, sizeof state.registers.general);
  std::memset(&state.registers.special, 0x22, sizeof state.registers.special);
  state.xcrs.nr_xcrs = 1;
  state.xcrs.xcrs[0] = {.xcr = 0, .reserved = 0, .value = 7};
  state.xsave.assign(4096, std::byte{0x33});
  state.msrs = {{.index = 0xc0000082, .value = 0x1234567890abcdef}, {.index = 0x277, .value = 6}};
  std::memset(&state.lapic, 0x44, sizeof state.lapic);
  std::memset(&state.events, 0x55, sizeof state.events);
  std::memset(&state.debugregs, 0x66, sizeof state.debugregs);
  state.mp_state.mp_state = 3;
  state.tsc = 0x7777777777777777;
  state.tsc_deadline = 0x8888888888888888;
  return state;
}

void put_u32(std::vector<std::byte>* bytes, size_t at, uint32_t value) {
  std::memcpy(bytes->data() + at, &value, sizeof value);
}

}  // namespace

TEST_CASE("a vCPU's state comes back as it was") {
  const auto bytes = encode_vcpu_state(sample());
  const auto state = decode_vcpu_state(bytes);
  REQUIRE(state.ok());
  CHECK(encode_vcpu_state(*state) == bytes);
  CHECK(state->msrs == sample().msrs);
  CHECK(state->xsave == sample().xsave);
  CHECK(state->tsc == 0x7777777777777777);
  CHECK(state->tsc_deadline == 0x8888888888888888);
  CHECK(state->mp_state.mp_state == 3);
}

TEST_CASE("every truncation of a vCPU's state, and bytes after its end, are errors") {
  auto bytes = encode_vcpu_state(sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    REQUIRE(decode_vcpu_state(std::span(bytes).first(size)).status().code() ==
            absl::StatusCode::kDataLoss);
  }
  bytes.push_back(std::byte{0});
  CHECK(decode_vcpu_state(bytes).status().code() == absl::StatusCode::kDataLoss);
}

TEST_CASE("an MSR that no snapshot may set is refused by number") {
  VcpuState state = sample();
  state.msrs.push_back({.index = 0x10, .value = 1});
  CHECK(std::string(decode_vcpu_state(encode_vcpu_state(state)).status().message())
            .find("MSR 0x10 is not one") != std::string::npos);
}

TEST_CASE("counts over their limits are refused before anything of their size is made") {
  auto bytes = encode_vcpu_state(sample());
  for (const uint32_t count : {uint32_t{ramet::kMaxMsrCount + 1}, ~uint32_t{0}}) {
    put_u32(&bytes, kMsrCount, count);
    CHECK(std::string(decode_vcpu_state(bytes).status().message()).find("number of MSRs") !=
          std::string::npos);
  }
  bytes = encode_vcpu_state(sample());
  for (const uint32_t size : {uint32_t{ramet::kMaxXsaveBytes + 1}, ~uint32_t{0}}) {
    put_u32(&bytes, kXsaveLength, size);
    CHECK(std::string(decode_vcpu_state(bytes).status().message()).find("XSAVE bytes") !=
          std::string::npos);
  }
  VcpuState xcrs = sample();
  xcrs.xcrs.nr_xcrs = KVM_MAX_XCRS + 1;
  CHECK(!decode_vcpu_state(encode_vcpu_state(xcrs)).ok());
  VcpuState small = sample();
  small.xsave.resize(4095);
  CHECK(!decode_vcpu_state(encode_vcpu_state(small)).ok());
}

TEST_CASE("the capability table names each capability once and says what it is for") {
  const auto table = ramet::capability_table();
  for (size_t i = 0; i < table.size(); ++i) {
    CHECK(!table[i].needed_for.empty());
    for (size_t other = 0; other < i; ++other) {
      CHECK(table[i].number != table[other].number);
    }
  }
}
