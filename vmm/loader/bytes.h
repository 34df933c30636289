// Reading little-endian numbers out of a file's bytes by copy.
//
// Thread rule: pure functions.
// Invariant: nothing outside the span is read.
#ifndef RAMET_VMM_LOADER_BYTES_H_
#define RAMET_VMM_LOADER_BYTES_H_

#include <bit>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace ramet {

static_assert(std::endian::native == std::endian::little);

// The `T` at `offset`; nothing where it would pass the end.
template <typename T>
requires std::is_trivially_copyable_v<T> std::optional<T> read_at(std::span<const std::byte> bytes,
                                                                  size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) {
    return std::nullopt;
  }
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

}  // namespace ramet

#endif  // RAMET_VMM_LOADER_BYTES_H_
