// What a helper tells: at once while the embedder takes it, in order and within bounds while it
// does not.
#include "lib/helper/program/outbox.h"

#include <algorithm>
#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/instance/console.h"
#include "lib/instance/reasons.h"
#include "vmm/base/socket.h"

using namespace ramet;
using namespace ramet::helper;

namespace {

// Both ends of an events socket.
struct Pair {
  UniqueFd theirs;
  UniqueFd ours;

  Pair() {
    auto ends = message_socket_pair(Blocking::kDontWait);
    REQUIRE(ends.ok());
    theirs = std::move((*ends)[0]);
    ours = std::move((*ends)[1]);
  }
  // The next event; none where there is none now.
  std::optional<Event> take() const {
    std::vector<std::byte> room(kMaxMessage);
    const auto got = receive_message(ours.get(), room, Blocking::kDontWait);
    if (!got.ok() || got->bytes == 0) {
      return std::nullopt;
    }
    auto event = decode_event(std::span(room).first(got->bytes));
    REQUIRE(event.ok());
    return *std::move(event);
  }
};

const Status kEnd = with_reason(absl::UnavailableError("reset"), reason::kGuestDied);

}  // namespace

TEST_CASE("what is told is there at once, without anybody to flush it") {
  const Pair pair;
  Outbox outbox(pair.theirs.get());
  outbox.console("one\n");
  const auto text = pair.take();
  REQUIRE(text);
  CHECK(std::get<ConsoleBytes>(*text).text == "one\n");
  outbox.log(LogLevel::kWarning, "a line");
  const auto line = pair.take();
  REQUIRE(line);
  CHECK(std::get<LogLine>(*line).text == "a line");
  outbox.ended({.why = kEnd});
  const auto end = pair.take();
  REQUIRE(end);
  CHECK(std::get<Ended>(*end).why == kEnd);
  CHECK_FALSE(pair.take());
}

TEST_CASE(
    "an embedder that takes nothing holds nobody up, loses only console, and hears how much") {
  const Pair pair;
  Outbox outbox(pair.theirs.get());
  const std::string part(1000, 'x');
  size_t told = 0;
  for (; told < 4 * Outbox::kMaxConsole; told += part.size()) {
    outbox.console(part);
  }
  outbox.ended({.why = kEnd});
  std::string text;
  std::optional<Status> end;
  while (!end) {
    outbox.flush();
    const auto event = pair.take();
    REQUIRE(event);
    if (const auto* bytes = std::get_if<ConsoleBytes>(&*event)) {
      text += bytes->text;
    } else {
      end = std::get<Ended>(*event).why;
    }
  }
  CHECK(end == kEnd);
  const auto kept = static_cast<size_t>(std::ranges::count(text, 'x'));
  CHECK(kept >= Outbox::kMaxConsole / 2);
  CHECK(kept < told);
  CHECK(text.ends_with(dropped_notice(told - kept)));
  CHECK_FALSE(pair.take());
}

TEST_CASE("a socket that was full is written to again once it is said to have room") {
  const Pair pair;
  Outbox outbox(pair.theirs.get());
  const std::string part(Outbox::kMaxConsole / 64, 'x');
  for (int i = 0; i < 64; ++i) {
    outbox.console(part);
  }
  while (pair.take()) {
  }
  outbox.refused(1);
  outbox.refused(2);
  CHECK_FALSE(pair.take());
  outbox.flush();
  std::optional<uint64_t> count;
  while (const auto event = pair.take()) {
    outbox.flush();
    if (const auto* refused = std::get_if<RefusedCalls>(&*event)) {
      CHECK_FALSE(count);  // the last count alone
      count = refused->count;
    }
  }
  CHECK(count == 2u);
}

TEST_CASE("an embedder that has gone is no error") {
  Pair pair;
  Outbox outbox(pair.theirs.get());
  pair.ours.reset();
  const auto before = std::signal(SIGPIPE, SIG_IGN);  // as the helper program does
  outbox.console("one\n");
  outbox.ended({.why = kEnd});
  outbox.flush();
  std::signal(SIGPIPE, before);
  SUCCEED();
}
