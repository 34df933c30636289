// TempDir: a folder that goes with the test.
//
// Thread rule: the test's thread.
#ifndef RAMET_TESTS_SUPPORT_TEMP_DIR_H_
#define RAMET_TESTS_SUPPORT_TEMP_DIR_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <catch2/catch.hpp>

#include "tests/support/place.h"

namespace ramet::testing {

inline void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Files and folders directly in `folder`.
inline size_t entries(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator all(folder);
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

// Empty at first; removed with all that is in it.
class TempDir {
 public:
  TempDir() {
    std::string pattern = temp_root() + "/ramet-test-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  size_t entries() const { return testing::entries(path_); }
  // A file of the folder, and the folders between.
  void write(const std::string& name, std::string_view content) const {
    const std::filesystem::path file = *this / name;
    std::filesystem::create_directories(file.parent_path());
    write_file(file, content);
  }
  std::string read(const std::string& name) const { return read_file(*this / name); }

 private:
  std::string path_;
};

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_TEMP_DIR_H_
