#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/settle.h"
#include "tests/unit/lib_agent/guest_under_test.h"

namespace wire = ramet::wire;
using ramet::AgentClient;
using ramet::test::GuestUnderTest;
using ramet::test::in_seconds;

namespace {

wire::Reseed reseed_for(const char* hostname) {
  auto reseed = ramet::make_reseed(hostname);
  REQUIRE(reseed.ok());
  return *reseed;
}

// What the agent answers to raw bytes: everything until it closes.
std::vector<std::byte> answer_to(const GuestUnderTest& guest, std::span<const std::byte> bytes) {
  const ramet::UniqueFd fd = guest.connect();
  (void)!::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  std::vector<std::byte> answer;
  std::byte byte;
  while (::read(fd.get(), &byte, 1) == 1) {
    answer.push_back(byte);
  }
  return answer;
}

wire::Message next_message(int fd) {
  wire::FrameReader reader;
  std::byte byte;
  while (!reader.complete()) {
    REQUIRE(::read(fd, &byte, 1) == 1);
    reader.feed({&byte, 1});
  }
  return reader.message().take();
}

std::vector<std::byte> encoded(const std::vector<wire::Message>& messages) {
  std::vector<std::byte> bytes;
  for (const wire::Message& message : messages) {
    const auto frame = wire::encode(message);
    bytes.insert(bytes.end(), frame.value().begin(), frame.value().end());
  }
  return bytes;
}

// The last message of `bytes`.
wire::Message last_message(std::span<const std::byte> bytes) {
  wire::FrameReader reader;
  wire::Message last;
  while (!bytes.empty()) {
    bytes = bytes.subspan(reader.feed(bytes));
    REQUIRE(reader.complete());
    last = reader.message().take();
    reader.next();
  }
  return last;
}

}  // namespace

TEST_CASE("make_reseed gives fresh entropy, generation and machine-id each time") {
  const wire::Reseed a = reseed_for("a");
  const wire::Reseed b = reseed_for("b");
  CHECK(a.entropy != b.entropy);
  CHECK(a.generation != b.generation);
  CHECK(a.machine_id != b.machine_id);
  CHECK(a.machine_id[12] == '4');
  CHECK(a.realtime_ns != 0);
  CHECK(wire::encode(a).ok());
}

TEST_CASE("the agent says who it is with its first answer, in one packet") {
  const GuestUnderTest guest;
  const ramet::UniqueFd fd = guest.connect();
  std::array<std::byte, 1024> answer;
  CHECK(::recv(fd.get(), answer.data(), answer.size(), MSG_DONTWAIT) < 0);
  const auto asked = encoded({wire::Hello{}, wire::Ping{7}});
  REQUIRE(::send(fd.get(), asked.data(), asked.size(), 0) == std::ssize(asked));
  const ssize_t size = ::recv(fd.get(), answer.data(), answer.size(), 0);
  const auto expected =
      encoded({wire::Hello{.kernel_release = "6.x-test", .build_id = "under-test"}, wire::Pong{7}});
  REQUIRE(size == std::ssize(expected));
  CHECK(std::ranges::equal(std::span(answer).first(expected.size()), expected));
}

TEST_CASE("the agent answers a Hello that comes alone") {
  const GuestUnderTest guest;
  const ramet::UniqueFd fd = guest.connect();
  const auto hello = encoded({wire::Hello{}});
  REQUIRE(::send(fd.get(), hello.data(), hello.size(), 0) == std::ssize(hello));
  CHECK(std::holds_alternative<wire::Hello>(next_message(fd.get())));
}

TEST_CASE("the agent says who it is before what a command writes") {
  const GuestUnderTest guest;
  const ramet::UniqueFd fd = guest.connect();
  wire::ExecRequest request;
  request.argv = {"/bin/echo", "x"};
  const auto asked = encoded({wire::Hello{}, request});
  REQUIRE(::send(fd.get(), asked.data(), asked.size(), 0) == std::ssize(asked));
  CHECK(std::holds_alternative<wire::Hello>(next_message(fd.get())));
  CHECK(std::holds_alternative<wire::Stdout>(next_message(fd.get())));
}

TEST_CASE("ping and exec follow on the same connection") {
  const GuestUnderTest guest;
  AgentClient client = guest.client();
  CHECK(client.ping(in_seconds(5)).ok());
  CHECK(client.ping(in_seconds(5)).ok());
  ramet::ExecSpec spec;
  spec.argv = {"/bin/echo", "x"};
  CHECK(client.exec(spec)->stdout_data == "x\n");
  CHECK(client.ping(in_seconds(5)).code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("freeze names the processes that live, and refuses") {
  const GuestUnderTest guest;
  std::thread running([&guest] { (void)guest.shell("exec sleep 1.5"); });
  AgentClient client = guest.client();
  ramet::StatusOr<wire::FreezeReply> reply = wire::FreezeReply{};
  for (int i = 0;
       i < 200 && reply.ok() && (reply->processes.empty() || reply->processes[0].comm != "sleep");
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    // Not frozen yet, or the loop ends with an error: a freeze would end this conversation.
    if (ramet::guest::read_file("/proc/" + std::to_string(guest.pid()) + "/task/" +
                                std::to_string(guest.pid()) + "/children")
            .value_or("")
            .empty()) {
      continue;
    }
    reply = client.freeze(in_seconds(5));
  }
  REQUIRE(reply.ok());
  CHECK(reply->live_count == 1);
  REQUIRE(reply->processes.size() == 1);
  CHECK(reply->processes[0].comm == "sleep");
  CHECK(client.ping(in_seconds(5)).ok());
  running.join();
}

TEST_CASE("a frozen agent refuses exec until its reseed, and not afterwards") {
  const GuestUnderTest guest;
  AgentClient bystander = guest.client();
  REQUIRE(bystander.ping(in_seconds(5)).ok());
  {
    AgentClient client = guest.client();
    const auto reply = client.freeze(in_seconds(5));
    REQUIRE(reply.ok());
    CHECK(reply->live_count == 0);
    CHECK(client.ping(in_seconds(5)).code() == absl::StatusCode::kFailedPrecondition);
  }
  CHECK(bystander.ping(in_seconds(5)).code() == absl::StatusCode::kUnavailable);
  CHECK(guest.shell("true").status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(guest.client().ping(in_seconds(5)).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(guest.client().freeze(in_seconds(5)).status().code() ==
        absl::StatusCode::kFailedPrecondition);

  CHECK(guest.client().reseed(reseed_for("refuse"), in_seconds(5)).code() ==
        absl::StatusCode::kInternal);
  CHECK(guest.shell("true").status().code() == absl::StatusCode::kFailedPrecondition);

  AgentClient client = guest.client();
  REQUIRE(client.reseed(reseed_for("fork-1"), in_seconds(5)).ok());
  ramet::ExecSpec spec;
  spec.argv = {"/bin/echo", "again"};
  const auto outcome = client.exec(spec);
  REQUIRE(outcome.ok());
  CHECK(outcome->stdout_data == "again\n");
}

TEST_CASE("what cannot be held is named, and nothing is held then") {
  const GuestUnderTest guest;  // without control groups
  std::thread running([&guest] { (void)guest.shell("exec sleep 1.5"); });
  AgentClient client = guest.client();
  const std::string self = std::to_string(guest.pid());
  CHECK(ramet::testing::wait_for([&] {
    return ramet::guest::read_file("/proc/" + self + "/task/" + self + "/children").value_or("") !=
           "";
  }));
  const auto reply = client.suspend(in_seconds(5));
  REQUIRE(reply.ok());
  CHECK(reply->live_count == 1);
  CHECK(client.thaw(in_seconds(5)).code() == absl::StatusCode::kInternal);
  running.join();
}

TEST_CASE("an agent that holds its guest takes a thaw from anybody, and holds only once") {
  const GuestUnderTest guest;
  {
    AgentClient client = guest.client();
    const auto reply = client.suspend(in_seconds(5));
    REQUIRE(reply.ok());
    CHECK(reply->live_count == 0);
    CHECK(guest.client().suspend(in_seconds(5)).status().code() ==
          absl::StatusCode::kResourceExhausted);
    CHECK(guest.client().freeze(in_seconds(5)).status().code() ==
          absl::StatusCode::kResourceExhausted);
    CHECK(client.ping(in_seconds(5)).ok());
    // Nothing would hold it here.
    CHECK(guest.shell("true").status().code() == absl::StatusCode::kFailedPrecondition);
  }
  // The end of that conversation has changed nothing.
  CHECK(guest.shell("true").status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(guest.client().thaw(in_seconds(5)).ok());
  CHECK(guest.shell("true").ok());
  CHECK(guest.client().thaw(in_seconds(5)).code() == absl::StatusCode::kInternal);
}

TEST_CASE("a reseed of a held guest ends its other conversations, and lets it go on") {
  const GuestUnderTest guest;
  AgentClient holder = guest.client();
  AgentClient bystander = guest.client();
  REQUIRE(bystander.ping(in_seconds(5)).ok());
  REQUIRE(holder.suspend(in_seconds(5))->live_count == 0);
  CHECK_FALSE(guest.client().reseed(reseed_for("refuse"), in_seconds(5)).ok());
  CHECK(guest.shell("true").status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(guest.client().reseed(reseed_for("fork-1"), in_seconds(5)).ok());
  CHECK(bystander.ping(in_seconds(5)).code() == absl::StatusCode::kUnavailable);
  CHECK(holder.thaw(in_seconds(5)).code() == absl::StatusCode::kUnavailable);
  CHECK(guest.shell("true").ok());
}

TEST_CASE("a reseed that fails in a running guest closes it to everything else") {
  const GuestUnderTest guest;
  CHECK(guest.shell("true").ok());
  CHECK_FALSE(guest.client().reseed(reseed_for("refuse"), in_seconds(5)).ok());
  CHECK(guest.shell("true").status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("the agent answers garbage, a wrong version and messages out of turn with an Error") {
  const GuestUnderTest guest;
  const auto code_for = [&guest](const std::vector<wire::Message>& messages) {
    const wire::Message last = last_message(answer_to(guest, encoded(messages)));
    const auto* error = std::get_if<wire::Error>(&last);
    return error == nullptr ? wire::ErrorCode{} : error->code;
  };
  CHECK(code_for({wire::Ping{1}}) == wire::ErrorCode::kProtocol);
  CHECK(code_for({wire::Hello{2, "", ""}}) == wire::ErrorCode::kVersion);
  CHECK(code_for({wire::Hello{}, wire::StdinEof{}}) == wire::ErrorCode::kProtocol);
  CHECK(code_for({wire::Hello{}, wire::Exit{}}) == wire::ErrorCode::kProtocol);
  const wire::ExecRequest sleeper{{"/bin/sleep", "100"}, {}, "", {}, false, 0};
  CHECK(code_for({wire::Hello{}, sleeper, wire::Ping{1}}) == wire::ErrorCode::kProtocol);
  CHECK(code_for({wire::Hello{}, sleeper, wire::StdinEof{}}) == wire::ErrorCode::kProtocol);
  wire::ExecRequest reader = sleeper;
  reader.has_stdin = true;
  CHECK(code_for({wire::Hello{}, reader, wire::StdinEof{}, wire::StdinEof{}}) ==
        wire::ErrorCode::kProtocol);
  const wire::Stdin data{std::vector<std::byte>(wire::kMaxDataBytes)};
  CHECK(code_for({wire::Hello{}, reader, data, data, data, data, data, data}) ==
        wire::ErrorCode::kProtocol);
  const std::vector<std::byte> garbage(100, std::byte{0xee});
  const wire::Message last = last_message(answer_to(guest, garbage));
  CHECK(std::holds_alternative<wire::Error>(last));
  CHECK(guest.shell("true").ok());
}

TEST_CASE("a connection beyond 192 is refused as busy, and one that ends makes room") {
  const GuestUnderTest guest;
  const std::vector<std::byte> hello = encoded({wire::Hello{}});
  std::vector<ramet::UniqueFd> held;
  for (size_t i = 0; i < 192; ++i) {
    held.push_back(guest.connect());
    REQUIRE(::write(held.back().get(), hello.data(), hello.size()) == std::ssize(hello));
    // Until then it may wait in the kernel's queue, where it is not counted.
    REQUIRE(std::holds_alternative<wire::Hello>(next_message(held.back().get())));
  }
  const wire::Message refused = last_message(answer_to(guest, {}));
  REQUIRE(std::holds_alternative<wire::Error>(refused));
  CHECK(std::get<wire::Error>(refused).code == wire::ErrorCode::kBusy);
  held.pop_back();
  CHECK(ramet::testing::wait_for([&] { return guest.shell("true").ok(); }));
}

TEST_CASE("a command beyond 128 is refused as busy") {
  const GuestUnderTest guest;
  const wire::ExecRequest sleeper{
      {"/bin/sh", "-c", "echo begun; exec sleep 100"}, {"PATH=/usr/bin:/bin"}, "", {}, false, 0};
  const std::vector<std::byte> request = encoded({wire::Hello{}, sleeper});
  std::vector<ramet::UniqueFd> running;
  for (size_t i = 0; i < 128; ++i) {
    running.push_back(guest.connect());
    REQUIRE(::write(running.back().get(), request.data(), request.size()) ==
            static_cast<ssize_t>(request.size()));
    while (!std::holds_alternative<wire::Stdout>(next_message(running.back().get()))) {
    }
  }
  const wire::Message refused = last_message(answer_to(guest, request));
  REQUIRE(std::holds_alternative<wire::Error>(refused));
  CHECK(std::get<wire::Error>(refused).code == wire::ErrorCode::kBusy);
}

TEST_CASE("poweroff is sent and ends the guest") {
  const GuestUnderTest guest;
  AgentClient client = guest.client();
  CHECK(client.poweroff(in_seconds(5)).ok());
  CHECK(client.ping(in_seconds(5)).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(::waitpid(guest.pid(), nullptr, 0) == guest.pid());
}
