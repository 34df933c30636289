#include "lib/image/xz.h"

#include <lzma.h>

#include <algorithm>

#include <absl/strings/str_format.h>

namespace ramet {
namespace {

constexpr size_t kFirstBytes = 64 * 1024;

struct Decoder {
  lzma_stream stream = LZMA_STREAM_INIT;
  ~Decoder() { ::lzma_end(&stream); }
};

Status failure(lzma_ret code, size_t unpacked) {
  if (code == LZMA_MEM_ERROR || code == LZMA_MEMLIMIT_ERROR) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("xz: unpacking needs more than %d bytes of memory", kXzMemoryBytes));
  }
  return absl::DataLossError(
      absl::StrFormat("xz: bad or cut data after %d unpacked bytes (lzma_ret %d)", unpacked,
                      static_cast<int>(code)));
}

}  // namespace

StatusOr<std::vector<std::byte>> unpack_xz(std::span<const std::byte> packed, size_t max_bytes) {
  Decoder decoder;
  lzma_stream& stream = decoder.stream;
  if (const lzma_ret code = ::lzma_stream_decoder(&stream, kXzMemoryBytes, LZMA_CONCATENATED);
      code != LZMA_OK) {
    return failure(code, 0);
  }
  std::vector<std::byte> out;
  // style: allow guest-cast: our own copy of a file, read as the bytes it is
  stream.next_in = reinterpret_cast<const uint8_t*>(packed.data());
  stream.avail_in = packed.size();
  while (true) {
    const size_t done = out.size();
    // One byte beyond the limit tells a stream that ends there from one that goes on.
    const size_t target = std::min(max_bytes + 1, std::max(kFirstBytes, 2 * done));
    out.resize(target);
    stream.next_out = reinterpret_cast<uint8_t*>(out.data() + done);
    stream.avail_out = target - done;
    const lzma_ret code = ::lzma_code(&stream, LZMA_FINISH);
    out.resize(target - stream.avail_out);
    if (code != LZMA_OK && code != LZMA_STREAM_END) {
      return failure(code, out.size());
    }
    if (out.size() > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrFormat("xz: unpacks to more than %d bytes", max_bytes));
    }
    if (code == LZMA_STREAM_END) {
      return out;
    }
    if (stream.avail_out != 0) {  // room left and no end: the input ended first
      return failure(LZMA_BUF_ERROR, out.size());
    }
  }
}

}  // namespace ramet
