// Arithmetic and narrowing that say when they do not fit, for numbers that come from a guest or a
// file.
//
// Thread rule: pure functions.
// Invariant: a value is returned only if it is the mathematical result.
#ifndef RAMET_VMM_BASE_CHECKED_H_
#define RAMET_VMM_BASE_CHECKED_H_

#include <concepts>
#include <optional>
#include <utility>

namespace ramet {

template <std::integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T result{};
  return __builtin_add_overflow(a, b, &result) ? std::nullopt : std::optional<T>(result);
}

template <std::integral T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T result{};
  return __builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional<T>(result);
}

template <std::integral To, std::integral From>
constexpr std::optional<To> checked_narrow(From value) {
  return std::in_range<To>(value) ? std::optional<To>(static_cast<To>(value)) : std::nullopt;
}

// `value` rounded up to a multiple of `alignment`, a power of two; nothing on overflow.
template <std::unsigned_integral T>
constexpr std::optional<T> checked_align_up(T value, T alignment) {
  const auto sum = checked_add<T>(value, alignment - 1);
  return sum ? std::optional<T>(*sum & ~(alignment - 1)) : std::nullopt;
}

}  // namespace ramet

#endif  // RAMET_VMM_BASE_CHECKED_H_
