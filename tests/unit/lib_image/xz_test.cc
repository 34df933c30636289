#include "lib/image/xz.h"

#include <catch2/catch.hpp>

#include "tests/unit/lib_image/image_support.h"

using absl::StatusCode;
using namespace ramet::testing;

TEST_CASE("xz data comes back, and cut, damaged, or oversized data is a Status") {
  Bytes plain(300'000);
  for (size_t i = 0; i < plain.size(); ++i) {
    plain[i] = static_cast<std::byte>(i * i >> 7);
  }
  Bytes packed = pack_xz(plain);
  CHECK(*ramet::unpack_xz(packed, plain.size()) == plain);
  CHECK(ramet::unpack_xz(packed, plain.size() - 1).status().code() ==
        StatusCode::kResourceExhausted);
  for (const size_t size : {size_t{0}, size_t{5}, packed.size() / 2, packed.size() - 1}) {
    CHECK(ramet::unpack_xz(std::span(packed).first(size), plain.size()).status().code() ==
          StatusCode::kDataLoss);
  }
  packed[packed.size() / 2] ^= std::byte{1};
  CHECK(ramet::unpack_xz(packed, plain.size()).status().code() == StatusCode::kDataLoss);
  const Bytes empty = pack_xz({});
  CHECK(ramet::unpack_xz(empty, 0)->empty());
}

TEST_CASE("xz: two gigabytes of zeros in a small file stop at the limit") {
  // Streams may follow one another: 2048 times one MiB.
  const Bytes one = pack_xz(Bytes(size_t{1} << 20));
  Bytes bomb;
  for (int i = 0; i < 2048; ++i) {
    bomb.insert(bomb.end(), one.begin(), one.end());
  }
  CHECK(ramet::unpack_xz(bomb, size_t{4} << 20).status().code() == StatusCode::kResourceExhausted);
}

TEST_CASE("xz: a stream that asks for more memory than allowed is refused") {
  // A preset with a 1 GiB dictionary, as the header says; nothing of it is allocated.
  lzma_options_lzma options;
  REQUIRE(::lzma_lzma_preset(&options, 0) == 0);
  options.dict_size = uint32_t{1} << 30;
  options.mf = LZMA_MF_HC3;
  lzma_filter filters[2] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  Bytes packed(4096);
  size_t size = 0;
  const uint8_t plain[16] = {};
  const lzma_ret code =
      ::lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, nullptr, plain, sizeof plain,
                                  reinterpret_cast<uint8_t*>(packed.data()), &size, packed.size());
  REQUIRE(code == LZMA_OK);
  packed.resize(size);
  CHECK(ramet::unpack_xz(packed, 4096).status().code() == StatusCode::kResourceExhausted);
}
