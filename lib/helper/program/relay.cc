#include "lib/helper/program/relay.h"

#include <span>
#include <utility>

#include "vmm/base/socket.h"

namespace ramet::helper {
namespace {

// What one conversation may carry before the others have their turn.
constexpr int kPartsAtOnce = 16;

}  // namespace

Relay::Relay(std::unique_ptr<VsockStream> stream, UniqueFd socket, Waker* waker)
    : stream_(std::move(stream)),
      socket_(std::move(socket)),
      waker_(*waker),
      in_(kMaxStreamPart + 1) {
  stream_->set_on_change([this] {
    dirty_.store(true);
    waker_.wake();
  });
}

void Relay::leave_for_later() {
  dirty_.store(true);
  waker_.wake();
}

bool Relay::run() { return guest_to_host() && host_to_guest(); }

void Relay::fill_from_guest() {
  to_host_.resize(kMaxStreamPart);
  const auto got = stream_->try_read(to_host_);
  if (!got.ok()) {
    tag_ = StreamTag::kError;
    to_host_ = encode_stream_error(got.status());
    guest_done_ = true;
    return;
  }
  to_host_.resize(got->state == VsockTransfer::State::kMoved ? got->bytes : 0);
  if (got->state == VsockTransfer::State::kEnd) {
    tag_ = StreamTag::kEnd;
    guest_done_ = true;
  }
}

bool Relay::guest_to_host() {
  for (int part = 0; part < kPartsAtOnce; ++part) {
    if (to_host_.empty() && !guest_done_) {
      fill_from_guest();
    }
    if ((to_host_.empty() && !guest_done_) || sent_last_) {
      return true;
    }
    const sys::Result sent =
        send_message(socket_.get(), std::as_bytes(std::span<const StreamTag, 1>(&tag_, 1)),
                     to_host_, Blocking::kDontWait);
    if (!sent.ok()) {
      return sent.error == EAGAIN;  // epoll tells when there is room
    }
    to_host_.clear();
    sent_last_ = guest_done_;
  }
  leave_for_later();
  return true;
}

bool Relay::fill_from_host() {
  const auto got = receive_message(socket_.get(), in_, Blocking::kDontWait);
  if (absl::IsUnavailable(got.status())) {
    return true;
  }
  if (!got.ok() || got->bytes == 0) {
    return false;
  }
  if (static_cast<StreamTag>(in_[0]) == StreamTag::kData) {
    to_guest_at_ = 1;
    to_guest_end_ = got->bytes;
    return true;
  }
  host_done_ = true;
  return stream_->shutdown_write().ok() || guest_done_;
}

bool Relay::host_to_guest() {
  for (int part = 0; part < kPartsAtOnce; ++part) {
    if (to_guest_at_ == to_guest_end_) {
      if (!fill_from_host()) {
        return false;
      }
      if (to_guest_at_ == to_guest_end_) {
        return true;
      }
    }
    const auto waiting = std::span(in_).subspan(to_guest_at_, to_guest_end_ - to_guest_at_);
    const auto put = stream_->try_write(waiting);
    if (!put.ok()) {
      to_guest_at_ = to_guest_end_;  // reading says why
      leave_for_later();
      return true;
    }
    if (put->state != VsockTransfer::State::kMoved) {
      return true;
    }
    to_guest_at_ += put->bytes;
  }
  leave_for_later();
  return true;
}

}  // namespace ramet::helper
