// Message sockets: whole messages, with descriptors that somebody owns.
#include "vmm/base/socket.h"

#include <fcntl.h>

#include <cerrno>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/settle.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr std::array kHead = {std::byte{1}, std::byte{2}};

std::array<UniqueFd, 2> make_pair() {
  auto ends = message_socket_pair();
  REQUIRE(ends.ok());
  return *std::move(ends);
}

}  // namespace

TEST_CASE("head and body come as one message") {
  const auto ends = make_pair();
  REQUIRE(send_message(ends[0].get(), kHead, kHead, Blocking::kDontWait).value == 4);
  std::array<std::byte, 8> into = {};
  const auto got = receive_message(ends[1].get(), into, Blocking::kDontWait);
  REQUIRE(got.ok());
  CHECK(got->bytes == 4);
  CHECK(into[3] == std::byte{2});
  CHECK(absl::IsUnavailable(receive_message(ends[1].get(), into, Blocking::kDontWait).status()));
}

TEST_CASE("descriptors arrive closed on exec and owned") {
  const auto ends = make_pair();
  const std::array files = {ends[0].get(), ends[1].get()};
  REQUIRE(send_message(ends[0].get(), kHead, {}, Blocking::kDontWait, files).ok());
  std::array<std::byte, 8> into = {};
  const auto got = receive_message(ends[1].get(), into, Blocking::kDontWait, 2);
  REQUIRE(got.ok());
  REQUIRE(got->files.size() == 2);
  CHECK((::fcntl(got->files[1].get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("more descriptors or bytes than asked for are refused, and none stays open") {
  const auto ends = make_pair();
  const std::array files = {ends[0].get(), ends[1].get(), ends[0].get()};
  std::array<std::byte, 8> into = {};
  for (const size_t room : {0U, 1U, 2U}) {
    const size_t before = descriptor_count();
    REQUIRE(send_message(ends[0].get(), kHead, {}, Blocking::kDontWait, files).ok());
    CHECK(
        absl::IsDataLoss(receive_message(ends[1].get(), into, Blocking::kDontWait, room).status()));
    CHECK(descriptor_count() == before);
  }
  REQUIRE(send_message(ends[0].get(), into, kHead, Blocking::kDontWait).ok());
  CHECK(absl::IsDataLoss(receive_message(ends[1].get(), into, Blocking::kDontWait).status()));
}

TEST_CASE(
    "a message takes kMaxMessageFiles descriptors, and one more is refused before it is sent") {
  const auto ends = make_pair();
  const std::vector<int> most(kMaxMessageFiles, ends[0].get());
  const std::vector<int> too_many(kMaxMessageFiles + 1, ends[0].get());
  CHECK(send_message(ends[0].get(), kHead, {}, Blocking::kDontWait, too_many).error == EMSGSIZE);
  REQUIRE(send_message(ends[0].get(), kHead, {}, Blocking::kDontWait, most).ok());
  std::array<std::byte, 8> into = {};
  const auto got = receive_message(ends[1].get(), into, Blocking::kDontWait, kMaxMessageFiles);
  REQUIRE(got.ok());
  CHECK(got->files.size() == kMaxMessageFiles);
}

TEST_CASE("a peer that has gone is an end to read and EPIPE to write, not a signal") {
  auto ends = make_pair();
  ends[1].reset();
  std::array<std::byte, 8> into = {};
  const auto got = receive_message(ends[0].get(), into, Blocking::kWait);
  REQUIRE(got.ok());
  CHECK(got->bytes == 0);
  CHECK(send_message(ends[0].get(), kHead, {}, Blocking::kWait).error == EPIPE);
}

TEST_CASE("a socket whose peer takes nothing is full, and says so") {
  const auto ends = make_pair();
  std::array<std::byte, 4096> part = {};
  sys::Result last;
  for (int i = 0; i < 10'000 && last.error != EAGAIN; ++i) {
    last = send_message(ends[0].get(), part, {}, Blocking::kDontWait);
  }
  CHECK(last.error == EAGAIN);
}
