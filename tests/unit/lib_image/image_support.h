// What the tests of lib/image share: bytes and text, stand-ins for ELF files and .xz files.
//
// Thread rule: on the test's own thread.
#ifndef RAMET_TESTS_UNIT_LIB_IMAGE_IMAGE_SUPPORT_H_
#define RAMET_TESTS_UNIT_LIB_IMAGE_IMAGE_SUPPORT_H_

#include <lzma.h>
#include <stdlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/temp_dir.h"

namespace ramet::testing {

using Bytes = std::vector<std::byte>;

inline Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

inline std::string text_of(std::span<const std::byte> bytes) {
  std::string text(bytes.size(), '\0');
  std::ranges::transform(bytes, text.begin(), [](std::byte b) { return static_cast<char>(b); });
  return text;
}

// liblzma's bytes are uint8_t.
inline Bytes pack_xz(std::span<const std::byte> plain) {
  Bytes packed(plain.size() + 1024);
  size_t size = 0;
  REQUIRE(::lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, nullptr,
                                    reinterpret_cast<const uint8_t*>(plain.data()), plain.size(),
                                    reinterpret_cast<uint8_t*>(packed.data()), &size,
                                    packed.size()) == LZMA_OK);
  packed.resize(size);
  return packed;
}

inline std::string fake_elf(const std::string& name) {
  return "\x7f"
         "ELF" +
         name + std::string(64, '.');
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_LIB_IMAGE_IMAGE_SUPPORT_H_
