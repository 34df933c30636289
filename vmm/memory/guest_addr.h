// GuestAddr and GuestSlice: guest-physical addresses as types of their own, so that no host pointer
// or length is taken for one.
//
// Thread rule: plain values.
// Invariant: a GuestSlice does not wrap round the end of the address space.
#ifndef RAMET_VMM_MEMORY_GUEST_ADDR_H_
#define RAMET_VMM_MEMORY_GUEST_ADDR_H_

#include <compare>
#include <cstdint>
#include <optional>

#include "vmm/base/checked.h"

namespace ramet {

struct GuestAddr {
  uint64_t value = 0;

  friend constexpr auto operator<=>(const GuestAddr&, const GuestAddr&) = default;  // NOLINT
  // The address `bytes` further on; nothing where that does not fit.
  constexpr std::optional<GuestAddr> plus(uint64_t bytes) const {
    const auto sum = checked_add<uint64_t>(value, bytes);
    return sum ? std::optional<GuestAddr>(GuestAddr{*sum}) : std::nullopt;
  }
};

// `size` bytes of guest memory from `start`. It says nothing about whether memory is there:
// GuestMemory checks that.
struct GuestSlice {
  GuestAddr start;
  uint64_t size = 0;

  static constexpr std::optional<GuestSlice> make(GuestAddr start, uint64_t size) {
    return start.plus(size) ? std::optional<GuestSlice>(GuestSlice{start, size}) : std::nullopt;
  }
  friend constexpr auto operator<=>(const GuestSlice&, const GuestSlice&) = default;
};

}  // namespace ramet

#endif  // RAMET_VMM_MEMORY_GUEST_ADDR_H_
