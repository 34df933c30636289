#include "lib/agent/wire.h"

#include <algorithm>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/unit/lib_agent/samples.h"

namespace wire = ramet::wire;
using Bytes = std::vector<std::byte>;

namespace {

Bytes frame_of(const wire::Message& message) {
  auto frame = wire::encode(message);
  REQUIRE(frame.ok());
  return frame.take();
}

Bytes payload_of(const wire::Message& message) {
  Bytes frame = frame_of(message);
  frame.erase(frame.begin(), frame.begin() + wire::kHeaderBytes);
  return frame;
}

bool encodes(const wire::Message& message) { return wire::encode(message).ok(); }

wire::ExecRequest minimal_exec() { return {{"true"}, {}, "", {}, false, 0}; }

}  // namespace

TEST_CASE("every message comes back from its frame as it was") {
  for (const wire::Message& message : ramet::test::sample_messages()) {
    CAPTURE(std::string(wire::name_of(wire::type_of(message))));
    const Bytes frame = frame_of(message);
    wire::FrameReader reader;
    CHECK(reader.feed(frame) == frame.size());
    REQUIRE(reader.complete());
    CHECK(reader.type() == wire::type_of(message));
    const auto decoded = reader.message();
    REQUIRE(decoded.ok());
    CHECK(decoded.value() == message);
  }
}

TEST_CASE("the samples hold every message type") {
  std::vector<bool> seen(std::variant_size_v<wire::Message>);
  for (const wire::Message& message : ramet::test::sample_messages()) {
    seen[message.index()] = true;
  }
  CHECK(std::ranges::find(seen, false) == seen.end());
}

TEST_CASE("every truncation and every extension of every payload is an error") {
  for (const wire::Message& message : ramet::test::sample_messages()) {
    const wire::MessageType type = wire::type_of(message);
    Bytes payload = payload_of(message);
    const bool is_data = type == wire::MessageType::kStdin || type == wire::MessageType::kStdout ||
                         type == wire::MessageType::kStderr;
    CAPTURE(std::string(wire::name_of(type)));
    for (size_t size = is_data ? 0 : payload.size(); size-- > 0;) {
      CHECK_FALSE(wire::decode(type, std::span(payload).first(size)).ok());
    }
    payload.push_back(std::byte{0});
    CHECK(wire::decode(type, payload).ok() == is_data);
  }
}

TEST_CASE(
    "a header with an unknown type, a flag, a reserved bit or too long a payload is refused") {
  auto bytes = wire::encode_header({5, wire::MessageType::kPing});
  CHECK(wire::decode_header(bytes).ok());
  const auto with = [&bytes](size_t index, uint8_t value) {
    auto changed = bytes;
    changed[index] = std::byte{value};
    return wire::decode_header(changed).ok();
  };
  CHECK_FALSE(with(4, 0));
  CHECK_FALSE(with(4, 21));
  CHECK_FALSE(with(5, 1));
  CHECK_FALSE(with(6, 1));
  CHECK_FALSE(with(7, 1));
  CHECK(wire::decode_header(wire::encode_header({wire::kMaxPayloadBytes, wire::MessageType::kPing}))
            .ok());
  CHECK_FALSE(wire::decode_header(
                  wire::encode_header({wire::kMaxPayloadBytes + 1, wire::MessageType::kPing}))
                  .ok());
}

TEST_CASE("a frame reader fed byte by byte cuts the same frames as one fed at once") {
  Bytes stream;
  for (const wire::Message& message : ramet::test::sample_messages()) {
    const Bytes frame = frame_of(message);
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  wire::FrameReader reader;
  std::vector<wire::Message> seen;
  for (const std::byte byte : stream) {
    REQUIRE(reader.feed({&byte, 1}) == 1);
    if (reader.complete()) {
      CHECK(reader.feed({&byte, 1}) == 0);
      seen.push_back(reader.message().value());
      reader.next();
      CHECK(reader.empty());
    }
  }
  CHECK(seen == ramet::test::sample_messages());
}

TEST_CASE("a frame reader stops for good at a header it refuses") {
  Bytes bad(wire::kHeaderBytes, std::byte{0xff});
  wire::FrameReader reader;
  reader.feed(bad);
  REQUIRE(reader.error().has_value());
  CHECK(reader.feed(bad) == 0);
  reader.next();
  CHECK(reader.error().has_value());
  CHECK_FALSE(reader.complete());
}

TEST_CASE("data messages hold 1 to kMaxDataBytes bytes") {
  CHECK_FALSE(encodes(wire::Stdout{}));
  CHECK(encodes(wire::Stdout{Bytes(wire::kMaxDataBytes)}));
  CHECK_FALSE(encodes(wire::Stdout{Bytes(wire::kMaxDataBytes + 1)}));
  CHECK_FALSE(wire::decode(wire::MessageType::kStdin, Bytes(wire::kMaxDataBytes + 1)).ok());
  CHECK_FALSE(wire::decode(wire::MessageType::kStdin, Bytes()).ok());
}

TEST_CASE("an ExecRequest is held to its limits on both sides") {
  struct Breach {
    const char* what;
    void (*commit)(wire::ExecRequest& request);
  };
  const Breach breaches[] = {
      {"no command", [](wire::ExecRequest& request) { request.argv = {}; }},
      {"an empty command name", [](wire::ExecRequest& request) { request.argv = {""}; }},
      {"too many arguments",
       [](wire::ExecRequest& request) { request.argv.resize(wire::kMaxArguments + 1, "x"); }},
      {"too many environment entries",
       [](wire::ExecRequest& request) { request.env.resize(wire::kMaxEnvironment + 1, "A=b"); }},
      {"a NUL in an argument",
       [](wire::ExecRequest& request) { request.argv.push_back(std::string("a\0b", 3)); }},
      {"an environment entry without =",
       [](wire::ExecRequest& request) { request.env = {"PATH"}; }},
      {"an environment entry without a name",
       [](wire::ExecRequest& request) { request.env = {"=x"}; }},
      {"an empty environment entry", [](wire::ExecRequest& request) { request.env = {""}; }},
      {"a relative working directory", [](wire::ExecRequest& request) { request.cwd = "tmp"; }},
      {"too long a working directory",
       [](wire::ExecRequest& request) {
         request.cwd = "/" + std::string(wire::kMaxPathBytes, 'a');
       }},
      {"ids beside a name",
       [](wire::ExecRequest& request) {
         request.user = {wire::User::Kind::kName, 1, 0, "x"};
       }},
      {"a name beside ids",
       [](wire::ExecRequest& request) {
         request.user = {wire::User::Kind::kIds, 1, 1, "x"};
       }},
      {"a missing name",
       [](wire::ExecRequest& request) {
         request.user = {wire::User::Kind::kName, 0, 0, ""};
       }},
      {"an unknown kind of user",
       [](wire::ExecRequest& request) { request.user.kind = static_cast<wire::User::Kind>(3); }},
      {"more than a frame",
       [](wire::ExecRequest& request) {
         request.argv.push_back(std::string(wire::kMaxExecBytes, 'a'));
       }},
  };
  for (const Breach& breach : breaches) {
    INFO(breach.what);
    wire::ExecRequest request = minimal_exec();
    breach.commit(request);
    CHECK_FALSE(encodes(request));
  }
}

TEST_CASE("counts and sizes in a payload that promise more than it holds are refused") {
  Bytes payload = payload_of(minimal_exec());
  payload[0] = std::byte{0xff};  // argv count 255, one string present
  CHECK_FALSE(wire::decode(wire::MessageType::kExecRequest, payload).ok());
  payload = payload_of(minimal_exec());
  payload[5] = std::byte{0xff};  // length of argv[0]: huge
  CHECK_FALSE(wire::decode(wire::MessageType::kExecRequest, payload).ok());
}

TEST_CASE("exit, signal, credit, reseed and error messages are held to their ranges") {
  using Kind = wire::Exit::Kind;
  CHECK_FALSE(encodes(wire::Exit{Kind::kExited, 256, false, ""}));
  CHECK_FALSE(encodes(wire::Exit{Kind::kExited, -1, false, ""}));
  CHECK_FALSE(encodes(wire::Exit{Kind::kExited, 0, false, "text"}));
  CHECK_FALSE(encodes(wire::Exit{Kind::kSignalled, 0, false, ""}));
  CHECK_FALSE(encodes(wire::Exit{Kind::kSignalled, 65, false, ""}));
  CHECK_FALSE(encodes(wire::Exit{Kind::kFailedToStart, 0, false, ""}));
  CHECK_FALSE(encodes(wire::Exit{static_cast<Kind>(3), 1, false, ""}));
  CHECK_FALSE(encodes(wire::Signal{0}));
  CHECK_FALSE(encodes(wire::Signal{65}));
  CHECK_FALSE(encodes(wire::StdinCredit{0, false}));
  CHECK_FALSE(encodes(wire::StdinCredit{wire::kStdinWindowBytes + 1, false}));
  CHECK_FALSE(encodes(wire::Error{static_cast<wire::ErrorCode>(0), ""}));
  CHECK_FALSE(encodes(wire::Error{static_cast<wire::ErrorCode>(7), ""}));
  CHECK_FALSE(encodes(wire::FreezeReply{1, {}}));
  wire::Reseed reseed;
  reseed.machine_id = "0123456789ABCDEF0123456789abcdef";
  CHECK_FALSE(encodes(reseed));
  reseed.machine_id = "0123";
  CHECK_FALSE(encodes(reseed));
}

TEST_CASE("a FreezeReply names at most kMaxListedProcesses of the processes it counts") {
  wire::FreezeReply reply{1000, {}};
  reply.processes.resize(wire::kMaxListedProcesses, {1, "x"});
  CHECK(encodes(reply));
  reply.processes.push_back({2, "y"});
  CHECK_FALSE(encodes(reply));
}
