// What the tests of lib/image share: a folder that goes with the test, bytes and text, stand-ins
// for ELF files and .xz files.
//
// Thread rule: on the test's own thread.
// Invariant: a Folder's path is gone after the test, whatever happened in it.
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

namespace ramet::testing {

using Bytes = std::vector<std::byte>;

// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "ramet-image-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  void write(const std::string& name, std::string_view content) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + name).parent_path());
    std::ofstream(path_ + "/" + name, std::ios::binary) << content;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(path_ + "/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

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
