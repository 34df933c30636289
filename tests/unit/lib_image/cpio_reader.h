// read_cpio: a newc archive read again, by the description of the format
// (Documentation/driver-api/early-userspace/buffer-format.rst).
//
// Thread rule: on the test's own thread.
// Invariant: every member's name is there once.
#ifndef RAMET_TESTS_UNIT_LIB_IMAGE_CPIO_READER_H_
#define RAMET_TESTS_UNIT_LIB_IMAGE_CPIO_READER_H_

#include <cstdint>
#include <map>
#include <string>

#include "tests/unit/lib_image/image_support.h"

namespace ramet::testing {

struct CpioItem {
  uint32_t mode = 0;
  uint32_t uid = 0;
  std::string content;
};

inline std::map<std::string, CpioItem> read_cpio(const Bytes& archive) {
  std::map<std::string, CpioItem> items;
  const std::string text = text_of(archive);
  size_t at = 0;
  while (true) {
    REQUIRE(text.substr(at, 6) == "070701");
    const auto field = [&](size_t index) {
      return static_cast<uint32_t>(std::stoul(text.substr(at + 6 + 8 * index, 8), nullptr, 16));
    };
    const uint32_t size = field(6);
    const std::string name = text.substr(at + 110, field(11) - 1);
    const size_t data = (at + 110 + field(11) + 3) / 4 * 4;
    if (name == "TRAILER!!!") {
      return items;
    }
    CHECK(!items.contains(name));
    items[name] = {field(1), field(2), text.substr(data, size)};
    at = (data + size + 3) / 4 * 4;
  }
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_LIB_IMAGE_CPIO_READER_H_
