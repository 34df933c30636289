// What the store's tests share: a folder of their own, and bytes in files of it.
//
// Thread rule: the test's thread.
#ifndef RAMET_TESTS_UNIT_LIB_STORE_STORE_SUPPORT_H_
#define RAMET_TESTS_UNIT_LIB_STORE_STORE_SUPPORT_H_

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "vmm/base/status.h"

namespace ramet::testing {

// An empty folder, removed with all that is in it.
class TempDir {
 public:
  TempDir() {
    std::string pattern = temp_root() + "/ramet-store-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  size_t entries() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Inverts one bit of the byte at `offset`.
inline void flip_bit(const std::string& path, std::streamoff offset) {
  std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(offset);
  const int byte = stream.get();
  REQUIRE(byte != EOF);
  stream.seekp(offset);
  stream.put(static_cast<char>(byte ^ 1));
}

// Entries of /proc/self/fd.
inline size_t open_files() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

inline bool says(const Status& status, const std::string& words) {
  return std::string(status.message()).find(words) != std::string::npos;
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_LIB_STORE_STORE_SUPPORT_H_
