#include "lib/core/vsock_byte_stream.h"

namespace ramet {
namespace {

StatusOr<IoResult> translate(const StatusOr<VsockTransfer>& transfer) {
  if (!transfer.ok()) {
    return transfer.status();
  }
  switch (transfer->state) {
    case VsockTransfer::State::kMoved:
      return IoResult::moved(transfer->bytes);
    case VsockTransfer::State::kEnd:
      return IoResult::end();
    case VsockTransfer::State::kWouldBlock:
      break;
  }
  return IoResult::would_block();
}

}  // namespace

StatusOr<IoResult> VsockByteStream::try_read(std::span<std::byte> into) {
  return translate(stream_->try_read(into));
}

StatusOr<IoResult> VsockByteStream::try_write(std::span<const std::byte> from) {
  return translate(stream_->try_write(from));
}

StatusOr<Readiness> VsockByteStream::wait(bool want_write, uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(const VsockReadiness ready, stream_->wait(want_write, deadline_ns));
  return Readiness{.readable = ready.readable, .writable = ready.writable};
}

}  // namespace ramet
