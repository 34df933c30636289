// The client against agents that lie: a scripted peer on a socket pair.
#include "lib/agent/client.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/unit/lib_agent/fd_stream.h"
#include "tests/unit/lib_agent/samples.h"

namespace wire = ramet::wire;
using absl::StatusCode;
using ramet::AgentClient;

namespace {

constexpr uint64_t kMs = 1'000'000;

uint64_t in_ms(uint64_t ms) { return ramet::monotonic_ns() + ms * kMs; }

void append(std::vector<std::byte>& bytes, const wire::Message& message) {
  const auto frame = wire::encode(message);
  REQUIRE(frame.ok());
  bytes.insert(bytes.end(), frame.value().begin(), frame.value().end());
}

// A peer that has said `messages` before the client says anything.
class Script {
 public:
  explicit Script(const std::vector<wire::Message>& messages) {
    std::vector<std::byte> bytes;
    for (const wire::Message& message : messages) {
      append(bytes, message);
    }
    say(bytes);
  }
  void say(std::span<const std::byte> bytes) const {
    REQUIRE(::write(peer_.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  void close() { peer_.reset(); }
  int peer() const { return peer_.get(); }
  AgentClient client() {
    return AgentClient(std::make_unique<ramet::test::FdStream>(std::move(ours_)));
  }

 private:
  static std::array<int, 2> pair() {
    std::array<int, 2> fds = {-1, -1};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
    return fds;
  }
  std::array<int, 2> fds_ = pair();
  ramet::UniqueFd ours_{fds_[0]};
  ramet::UniqueFd peer_{fds_[1]};
};

ramet::ExecSpec quick_spec() {
  ramet::ExecSpec spec;
  spec.argv = {"true"};
  spec.timeout_ns = 100 * kMs;
  return spec;
}

StatusCode exec_code(const std::vector<wire::Message>& messages) {
  Script script(messages);
  return script.client().exec(quick_spec()).status().code();
}

}  // namespace

TEST_CASE("an agent that never answers costs no more than the deadline") {
  Script script({});
  AgentClient client = script.client();
  const uint64_t start = ramet::monotonic_ns();
  CHECK(client.handshake(in_ms(50)).status().code() == StatusCode::kDeadlineExceeded);
  CHECK(ramet::monotonic_ns() - start < 1000 * kMs);
  CHECK(client.ping(in_ms(50)).code() == StatusCode::kFailedPrecondition);
}

TEST_CASE(
    "a conversation that rests goes on with what came before its rest, and with what comes after") {
  const wire::Reseed reseed;
  const wire::ReseedAck ack{reseed.generation};
  SECTION("before") {
    Script script({wire::Hello{}, ack, wire::Exit{}});
    AgentClient client = script.client();
    REQUIRE(client.reseed(reseed, in_ms(500)).ok());
    client.rest();
    CHECK(client.exec(quick_spec()).ok());
  }
  SECTION("after") {
    Script script({wire::Hello{}, ack});
    AgentClient client = script.client();
    REQUIRE(client.reseed(reseed, in_ms(500)).ok());
    client.rest();
    std::vector<std::byte> bytes;
    append(bytes, wire::Exit{});
    script.say(bytes);
    CHECK(client.exec(quick_spec()).ok());
  }
}

TEST_CASE("a command that an agent never reports is DeadlineExceeded after timeout and grace") {
  const uint64_t start = ramet::monotonic_ns();
  CHECK(exec_code({wire::Hello{}}) == StatusCode::kDeadlineExceeded);
  const uint64_t took = ramet::monotonic_ns() - start;
  CHECK(took >= ramet::kKillGraceNs);
  CHECK(took < 2 * ramet::kKillGraceNs);
}

namespace {

// Two streams of output, then an exit by SIGKILL as the agent reports it.
std::vector<wire::Message> output_of(size_t out, size_t err) {
  return {
      wire::Hello{}, wire::Stdout{std::vector<std::byte>(out, std::byte{'o'})},
      wire::Stderr{std::vector<std::byte>(err, std::byte{'e'})},
      wire::Exit{.kind = wire::Exit::Kind::kSignalled, .code = 9, .timed_out = false, .text = {}}};
}

ramet::ExecOutcome limited_exec(size_t limit, size_t out, size_t err, std::string* passed_on) {
  Script script(output_of(out, err));
  ramet::ExecSpec spec = quick_spec();
  spec.timeout_ns = 0;
  spec.max_output_bytes = limit;
  if (passed_on != nullptr) {
    spec.stderr_sink = [passed_on](std::span<const std::byte> bytes) {
      passed_on->append(bytes.size(), 'e');
      return ramet::Status();
    };
  }
  auto outcome = script.client().exec(spec);
  INFO(outcome.status());
  REQUIRE(outcome.ok());
  return *std::move(outcome);
}

}  // namespace

TEST_CASE("output up to its limit is whole; beyond, it is cut there and the command killed") {
  const auto within = limited_exec(300, 200, 100, nullptr);
  CHECK_FALSE(within.output_limited);
  CHECK(within.output_bytes == 300);
  CHECK(within.stderr_data.size() == 100);
  std::string passed_on;
  const auto beyond = limited_exec(299, 200, 100, &passed_on);
  CHECK(beyond.output_limited);
  CHECK_FALSE(beyond.timed_out);
  CHECK(beyond.output_bytes == 300);
  CHECK(beyond.stdout_data.size() == 200);
  CHECK(passed_on.size() == 99);
  const auto first = limited_exec(1, 200, 100, &passed_on);
  CHECK(first.stdout_data == "o");
  CHECK(passed_on.size() == 99);  // nothing of the second stream
  CHECK_FALSE(limited_exec(0, 200, 100, nullptr).output_limited);
}

TEST_CASE("an agent that does not report the kill for output is DeadlineExceeded after the grace") {
  std::vector<wire::Message> messages = output_of(200, 100);
  messages.pop_back();
  Script script(messages);
  ramet::ExecSpec spec = quick_spec();
  spec.timeout_ns = 0;
  spec.max_output_bytes = 100;
  const auto outcome = script.client().exec(spec);
  CHECK(outcome.status().code() == StatusCode::kDeadlineExceeded);
  CHECK(std::string(outcome.status().message()).find("wrote more than 100 bytes") !=
        std::string::npos);
}

TEST_CASE("an agent that answers ping with another token or message is DataLoss") {
  CHECK(Script({wire::Hello{}, wire::Pong{1}}).client().ping(in_ms(500)).code() ==
        StatusCode::kDataLoss);
  CHECK(Script({wire::Hello{}, wire::Stdout{{std::byte{1}}}}).client().ping(in_ms(500)).code() ==
        StatusCode::kDataLoss);
}

TEST_CASE("an agent whose first message is no Hello, or of another version, is refused") {
  CHECK(Script({wire::Pong{1}}).client().ping(in_ms(500)).code() == StatusCode::kDataLoss);
  CHECK(Script({wire::Hello{2, "", ""}}).client().ping(in_ms(500)).code() ==
        StatusCode::kFailedPrecondition);
}

TEST_CASE("a reseed counts only when its own generation is acknowledged") {
  const auto reseed = ramet::make_reseed("x");
  REQUIRE(reseed.ok());
  wire::ReseedAck ack{reseed->generation};
  CHECK(Script({wire::Hello{}, ack}).client().reseed(*reseed, in_ms(500)).ok());
  ack.generation[3] ^= std::byte{1};
  CHECK(Script({wire::Hello{}, ack}).client().reseed(*reseed, in_ms(500)).code() ==
        StatusCode::kDataLoss);
  CHECK(Script({wire::Hello{}, wire::Error{wire::ErrorCode::kReseedFailed, "no"}})
            .client()
            .reseed(*reseed, in_ms(500))
            .code() == StatusCode::kInternal);
}

TEST_CASE("every message that has no place in an exec is refused") {
  for (const wire::Message& message : ramet::test::sample_messages()) {
    const bool has_place = std::holds_alternative<wire::Stdout>(message) ||
                           std::holds_alternative<wire::Stderr>(message) ||
                           std::holds_alternative<wire::Exit>(message) ||
                           std::holds_alternative<wire::Error>(message) ||
                           std::holds_alternative<wire::StdinCredit>(message);
    if (!has_place) {
      CAPTURE(std::string(wire::name_of(wire::type_of(message))));
      CHECK(exec_code({wire::Hello{}, message}) == StatusCode::kDataLoss);
    }
  }
}

TEST_CASE("stdin credit for bytes that were not sent is DataLoss") {
  CHECK(exec_code({wire::Hello{}, wire::StdinCredit{1, false}}) == StatusCode::kDataLoss);
}

TEST_CASE("bytes that are no frame are DataLoss, and an early end is Unavailable") {
  Script garbage({wire::Hello{}});
  garbage.say(std::vector<std::byte>(1000, std::byte{0xdd}));
  CHECK(garbage.client().ping(in_ms(500)).code() == StatusCode::kDataLoss);

  Script cut({wire::Hello{}});
  cut.say(std::vector<std::byte>(3, std::byte{0}));
  AgentClient client = cut.client();
  CHECK(client.handshake(in_ms(500)).ok());
  std::thread closer([&cut] { cut.close(); });
  const ramet::Status status = client.ping(in_ms(2000));
  closer.join();
  CHECK(status.code() == StatusCode::kUnavailable);
}

TEST_CASE("guest text in a Status is escaped") {
  Script script({wire::Hello{}, wire::Error{wire::ErrorCode::kInternal, "a\x1b[31mb\n"}});
  const ramet::Status status = script.client().ping(in_ms(500));
  CHECK(status.code() == StatusCode::kInternal);
  CHECK(std::string(status.message()).find("a\\x1b[31mb\\n") != std::string::npos);
}

TEST_CASE("a guest that floods output is held to the capture limit and to the timeout") {
  Script script({wire::Hello{}});
  std::vector<std::byte> bytes;
  append(bytes, wire::Stdout{std::vector<std::byte>(wire::kMaxDataBytes)});
  std::thread flood([&script, &bytes] {
    while (::send(script.peer(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  ramet::ExecSpec spec = quick_spec();
  spec.capture_bytes = 1000;
  const uint64_t start = ramet::monotonic_ns();
  CHECK(script.client().exec(spec).status().code() == StatusCode::kDeadlineExceeded);
  CHECK(ramet::monotonic_ns() - start < 2 * ramet::kKillGraceNs);
  flood.join();
}

TEST_CASE("a guest that dribbles half a frame does not stretch the deadline") {
  Script script({wire::Hello{}});
  std::vector<std::byte> bytes;
  append(bytes, wire::Error{wire::ErrorCode::kInternal, std::string(1000, 'x')});
  std::thread dribble([&script, &bytes] {
    for (size_t i = 0; i + 1 < bytes.size(); ++i) {
      if (::send(script.peer(), &bytes[i], 1, MSG_NOSIGNAL) <= 0) {
        return;
      }
      ::usleep(2000);
    }
  });
  const uint64_t start = ramet::monotonic_ns();
  CHECK(script.client().ping(in_ms(100)).code() == StatusCode::kDeadlineExceeded);
  CHECK(ramet::monotonic_ns() - start < 1000 * kMs);
  dribble.join();
}

TEST_CASE("an error of the stdin source ends the exec with that error") {
  class BadSource final : public ramet::StdinSource {
    ramet::StatusOr<ramet::IoResult> try_read(std::span<std::byte>) override {
      return absl::DataLossError("source broke");
    }
  };
  Script script({wire::Hello{}});
  BadSource source;
  ramet::ExecSpec spec = quick_spec();
  spec.stdin_source = &source;
  const auto status = script.client().exec(spec).status();
  CHECK(status.code() == StatusCode::kDataLoss);
  CHECK(std::string(status.message()).find("source broke") != std::string::npos);
}
