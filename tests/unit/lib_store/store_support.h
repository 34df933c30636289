// What the store's tests share: damage to files, and what was found.
//
// Thread rule: the test's thread.
#ifndef RAMET_TESTS_UNIT_LIB_STORE_STORE_SUPPORT_H_
#define RAMET_TESTS_UNIT_LIB_STORE_STORE_SUPPORT_H_

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <catch2/catch.hpp>

#include "tests/support/temp_dir.h"
#include "vmm/base/status.h"

namespace ramet::testing {

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
