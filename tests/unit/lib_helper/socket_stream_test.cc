// A conversation by way of a helper process, against a peer that is the test.
#include "lib/helper/socket_stream.h"

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "lib/helper/wire/messages.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/socket.h"

using namespace ramet;
using namespace ramet::helper;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

struct Conversation {
  std::shared_ptr<StreamGroup> group = std::make_shared<StreamGroup>();
  UniqueFd peer;
  std::unique_ptr<SocketStream> stream;

  void say(StreamTag tag, std::span<const std::byte> body = {}) const {
    const auto head = static_cast<std::byte>(tag);
    REQUIRE(send_message(peer.get(), {&head, 1}, body, Blocking::kDontWait).ok());
  }
  // The tag and the size of the body of what the stream wrote.
  std::pair<StreamTag, size_t> hear() const {
    std::vector<std::byte> room(kMaxMessage);
    const auto got = receive_message(peer.get(), room, Blocking::kDontWait);
    REQUIRE(got.ok());
    REQUIRE(got->bytes > 0);
    return {static_cast<StreamTag>(room[0]), got->bytes - 1};
  }
};

Conversation make() {
  Conversation made;
  auto ends = message_socket_pair();
  REQUIRE(ends.ok());
  made.peer = std::move((*ends)[1]);
  auto stream = SocketStream::create(std::move((*ends)[0]), made.group);
  REQUIRE(stream.ok());
  made.stream = *std::move(stream);
  return made;
}

std::vector<std::byte> bytes(size_t size) { return std::vector<std::byte>(size, std::byte{'x'}); }

}  // namespace

TEST_CASE("a part that is read in pieces comes whole and in order") {
  const auto it = make();
  const std::array part = {std::byte{1}, std::byte{2}, std::byte{3}};
  it.say(StreamTag::kData, part);
  std::array<std::byte, 2> into = {};
  REQUIRE(*it.stream->try_read(into) == IoResult::moved(2));
  CHECK(into[1] == std::byte{2});
  REQUIRE(*it.stream->try_read(into) == IoResult::moved(1));
  CHECK(into[0] == std::byte{3});
  CHECK(*it.stream->try_read(into) == IoResult::would_block());
}

TEST_CASE("the guest's end is an end, and its reset an error with its own message") {
  const auto it = make();
  std::array<std::byte, 2> into = {};
  it.say(StreamTag::kEnd);
  CHECK(*it.stream->try_read(into) == IoResult::end());
  const auto other = make();
  other.say(StreamTag::kError, encode_stream_error(absl::UnavailableError("reset by the guest")));
  CHECK(other.stream->try_read(into).status() == absl::UnavailableError("reset by the guest"));
}

TEST_CASE("the machine's end reaches its owner before those who talk with the guest") {
  const auto it = make();
  const Status told_here = with_reason(absl::UnavailableError("here"), reason::kGuestDied);
  const Status told_there = with_reason(absl::UnavailableError("there"), reason::kGuestDied);
  it.say(StreamTag::kError, encode_stream_error(told_here));
  std::atomic<bool> owner_knows{false};
  std::thread events([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    owner_knows = true;
    it.group->end(told_there);
  });
  std::array<std::byte, 2> into = {};
  CHECK(it.stream->try_read(into).status() == told_there);
  CHECK(owner_knows);
  events.join();
}

TEST_CASE("a machine's end that its owner is never told is still an end") {
  const auto it = make();
  const Status why = with_reason(absl::UnavailableError("here"), reason::kGuestDied);
  it.say(StreamTag::kError, encode_stream_error(why));
  std::array<std::byte, 2> into = {};
  CHECK(it.stream->try_read(into).status() == why);
}

TEST_CASE("nonsense from a helper is an error") {
  std::array<std::byte, 2> into = {};
  for (const int tag : {0, 4, 255}) {
    const auto it = make();
    it.say(static_cast<StreamTag>(tag), bytes(1));
    CHECK(absl::IsDataLoss(it.stream->try_read(into).status()));
  }
  const auto empty = make();
  empty.say(StreamTag::kData);
  CHECK(absl::IsDataLoss(empty.stream->try_read(into).status()));
  const auto large = make();
  large.say(StreamTag::kData, bytes(kMaxStreamPart + 1));
  CHECK(absl::IsDataLoss(large.stream->try_read(into).status()));
  const auto bare = make();
  bare.say(StreamTag::kError);
  CHECK(absl::IsDataLoss(bare.stream->try_read(into).status()));
}

TEST_CASE("a helper that closes its end breaks the conversation") {
  auto it = make();
  it.peer.reset();
  std::array<std::byte, 2> into = {};
  const auto ready = it.stream->wait(false, monotonic_ns() + kSecond);
  REQUIRE(ready.ok());
  CHECK(ready->readable);
  CHECK(absl::IsUnavailable(it.stream->try_read(into).status()));
  CHECK(absl::IsUnavailable(it.stream->try_write(bytes(1)).status()));
}

TEST_CASE("a helper that takes nothing makes a writer wait, not block") {
  const auto it = make();
  StatusOr<IoResult> last = IoResult::moved(1);
  for (int i = 0; i < 10'000 && *last != IoResult::would_block(); ++i) {
    last = it.stream->try_write(bytes(kMaxStreamPart));
    REQUIRE(last.ok());
  }
  REQUIRE(*last == IoResult::would_block());
  CHECK(it.stream->shutdown_write().ok());
  CHECK(absl::IsDeadlineExceeded(it.stream->wait(true, monotonic_ns() + kSecond / 100).status()));
  size_t parts = 0;
  while (it.hear().first == StreamTag::kData) {
    ++parts;
    // The end that could not be sent goes as soon as there is room and somebody waits.
    it.stream->wait(false, monotonic_ns() + 1).status().IgnoreError();
  }
  CHECK(parts > 0);
}

TEST_CASE("the end of the machine wakes a waiter, and what had arrived is read first") {
  const auto it = make();
  std::thread ender([&] { it.group->end(absl::CancelledError("killed")); });
  const auto woken = it.stream->wait(false, monotonic_ns() + 30 * kSecond);
  ender.join();
  CHECK(woken.status() == absl::CancelledError("killed"));
  const auto other = make();
  other.say(StreamTag::kData, bytes(2));
  other.group->end(absl::CancelledError("killed"));
  std::array<std::byte, 4> into = {};
  CHECK(*other.stream->try_read(into) == IoResult::moved(2));
  CHECK(other.stream->try_read(into).status() == absl::CancelledError("killed"));
  CHECK(other.stream->try_write(into).status() == absl::CancelledError("killed"));
}

TEST_CASE("wake() makes the current wait return, or the next") {
  const auto it = make();
  it.stream->wake();
  const auto ready = it.stream->wait(false, monotonic_ns() + 30 * kSecond);
  REQUIRE(ready.ok());
  CHECK_FALSE(ready->readable);
  CHECK(absl::IsDeadlineExceeded(it.stream->wait(false, monotonic_ns() + 1000).status()));
}
