// VsockByteStream: a vsock connection as the agent client wants it.
//
// Thread rule: as ByteStream.
#ifndef RAMET_LIB_CORE_VSOCK_BYTE_STREAM_H_
#define RAMET_LIB_CORE_VSOCK_BYTE_STREAM_H_

#include <memory>

#include "devices/vsock/stream.h"
#include "lib/agent/stream.h"

namespace ramet {

class VsockByteStream final : public ByteStream {
 public:
  explicit VsockByteStream(std::unique_ptr<VsockStream> stream) : stream_(std::move(stream)) {}

  StatusOr<IoResult> try_read(std::span<std::byte> into) override;
  StatusOr<IoResult> try_write(std::span<const std::byte> from) override;
  StatusOr<Readiness> wait(bool want_write, uint64_t deadline_ns) override;
  void wake() override { stream_->wake(); }
  Status shutdown_write() override { return stream_->shutdown_write(); }

 private:
  const std::unique_ptr<VsockStream> stream_;
};

}  // namespace ramet

#endif  // RAMET_LIB_CORE_VSOCK_BYTE_STREAM_H_
