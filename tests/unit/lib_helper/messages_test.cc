// The messages between a process and its helpers: what is written is read the same, and nothing
// else is read.
#include "lib/helper/wire/messages.h"

#include <catch2/catch.hpp>

#include "lib/instance/reasons.h"

using namespace ramet;
using namespace ramet::helper;

namespace {

InstanceMetrics some_metrics() {
  return {.vcpu_exits = 1,
          .interrupts = 8,
          .cpu_ns = 9,
          .throttled = 10,
          .throttled_ns = 11,
          .vsock_bytes_in = 2,
          .vsock_bytes_out = 3,
          .disk_bytes_read = 4,
          .disk_bytes_written = 5,
          .private_disk_bytes = 6,
          .first_exit_ns = 7};
}

template <typename Decode>
void check_no_part_is_taken(const std::vector<std::byte>& whole, Decode decode) {
  for (size_t size = 0; size < whole.size(); ++size) {
    INFO(size << " of " << whole.size() << " bytes");
    CHECK(absl::IsDataLoss(decode(std::span(whole).first(size)).status()));
  }
  std::vector<std::byte> longer = whole;
  longer.push_back(std::byte{0});
  CHECK(absl::IsDataLoss(decode(longer).status()));
}

}  // namespace

TEST_CASE("a fork's request keeps its generation, ports, wish for a console and limits") {
  Fork fork = {.template_id = 7,
               .host_port_offset = 8192,
               .wants_console = true,
               .first_port = 1024,
               .prefetch = true,
               .take_shell = true,
               .refill_shells = true};
  fork.limits = {.wall_ns = 1,
                 .cpu_ns = 2,
                 .private_bytes = 3,
                 .disk_bytes = 4,
                 .disk_full_ends = false,
                 .connections = 5,
                 .rates = {.exits = {6, true}, .interrupts = {7, false}, .cpu = {8, true}}};
  fork.generation.fill(std::byte{0x5a});
  const auto bytes = encode(Request(fork));
  const auto read = decode_request(bytes);
  REQUIRE(read.ok());
  const auto* same = std::get_if<Fork>(&*read);
  REQUIRE(same != nullptr);
  CHECK(same->template_id == 7);
  CHECK(same->generation == fork.generation);
  CHECK(same->host_port_offset == 8192);
  CHECK(same->wants_console);
  CHECK(same->first_port == 1024);
  CHECK(same->prefetch);
  CHECK(same->take_shell);
  CHECK(same->refill_shells);
  CHECK(same->limits == fork.limits);
  check_no_part_is_taken(bytes, decode_request);
}

TEST_CASE("requests without arguments are told apart") {
  CHECK(std::holds_alternative<Files>(*decode_request(encode(Request(Files{})))));
  CHECK(std::holds_alternative<Resume>(*decode_request(encode(Request(Resume{})))));
  CHECK(std::holds_alternative<Pause>(*decode_request(encode(Request(Pause{})))));
  CHECK(std::holds_alternative<AskMetrics>(*decode_request(encode(Request(AskMetrics{})))));
  CHECK(std::holds_alternative<AskMemory>(*decode_request(encode(Request(AskMemory{})))));
  CHECK(std::holds_alternative<NewMachine>(*decode_request(encode(Request(NewMachine{})))));
  CHECK(std::holds_alternative<Relieve>(*decode_request(encode(Request(Relieve{})))));
  const auto keep = decode_request(encode(Request(KeepShells{2, 64})));
  CHECK(std::get<KeepShells>(*keep).per_template == 2);
  CHECK(std::get<KeepShells>(*keep).max == 64);
  CHECK(std::get<Connect>(*decode_request(encode(Request(Connect{1024})))).guest_port == 1024);
  CHECK(std::get<Learn>(*decode_request(encode(Request(Learn{7})))).template_id == 7);
  CHECK(std::get<Forget>(*decode_request(encode(Request(Forget{7})))).template_id == 7);
  CHECK(
      std::get<TakeSnapshot>(*decode_request(encode(Request(TakeSnapshot{7, 3})))).expected_bytes ==
      7);
}

TEST_CASE("a count of refused calls is an event") {
  const auto bytes = encode(Event(RefusedCalls{7}));
  CHECK(std::get<RefusedCalls>(*decode_event(bytes)).count == 7);
  check_no_part_is_taken(bytes, decode_event);
}

TEST_CASE("all requests are answered but those that nobody waits for") {
  CHECK(wants_reply(Fork{}));
  CHECK(wants_reply(Learn{}));
  CHECK(wants_reply(Resume{}));
  CHECK_FALSE(wants_reply(NewMachine{}));
  CHECK_FALSE(wants_reply(Forget{}));
  CHECK_FALSE(wants_reply(KeepShells{}));
  CHECK_FALSE(wants_reply(Relieve{}));
}

TEST_CASE("a reply carries a status with its reason") {
  const Status why = with_reason(absl::UnavailableError("triple fault"), reason::kGuestDied);
  const auto bytes = encode(Reply(Done{why}));
  const auto read = decode_reply(bytes);
  REQUIRE(read.ok());
  const Status same = std::get<Done>(*read).status;
  CHECK(same == why);
  CHECK(reason_of(same) == reason::kGuestDied);
  check_no_part_is_taken(bytes, decode_reply);
}

TEST_CASE("an end by a limit keeps its figures") {
  const LimitHit hit = {LimitKind::kPrivateMemory, 64, 71};
  const auto read = decode_event(encode(Event(Ended{.why = limit_status(hit)})));
  REQUIRE(read.ok());
  const Status why = std::get<Ended>(*read).why;
  CHECK(why == limit_status(hit));
  CHECK(limit_of(why) == hit);
}

TEST_CASE("a hello carries the build and each step of the enclosure") {
  Hello hello = {.build = "a build"};
  hello.enclosure.at(jail::Step::kLandlock) = ENOSYS;
  const auto read = decode_reply(encode(Reply(hello)));
  REQUIRE(read.ok());
  CHECK(std::get<Hello>(*read).build == "a build");
  CHECK(std::get<Hello>(*read).enclosure.errors == hello.enclosure.errors);
  CHECK(std::get<Hello>(*read).enclosure.missing() == "landlock (Function not implemented)");
}

TEST_CASE("metrics come back number by number") {
  const auto bytes = encode(Reply(some_metrics()));
  const auto read = decode_reply(bytes);
  REQUIRE(read.ok());
  CHECK(std::get<InstanceMetrics>(*read) == some_metrics());
  check_no_part_is_taken(bytes, decode_reply);
}

TEST_CASE("what a machine holds of memory comes back, unless more of it is out than there is") {
  MemoryUse use = {
      .private_bytes = 3, .swapped_bytes = 2, .shared_bytes = 5, .page_table_bytes = 7};
  const auto bytes = encode(Reply(use));
  const auto read = decode_reply(bytes);
  REQUIRE(read.ok());
  CHECK(std::get<MemoryUse>(*read) == use);
  CHECK(std::get<MemoryUse>(*read).resident_bytes() == 6);
  check_no_part_is_taken(bytes, decode_reply);
  use.swapped_bytes = 4;
  CHECK(absl::IsDataLoss(decode_reply(encode(Reply(use))).status()));
}

TEST_CASE("a snapshot that was taken says how much it is, and how long it took") {
  const auto bytes = encode(Reply(SnapshotTaken{.result_bytes = 7, .pause_ns = 9}));
  const auto read = decode_reply(bytes);
  REQUIRE(read.ok());
  CHECK(std::get<SnapshotTaken>(*read).result_bytes == 7);
  CHECK(std::get<SnapshotTaken>(*read).pause_ns == 9);
  check_no_part_is_taken(bytes, decode_reply);
}

TEST_CASE("a fork that was made says since when it stood ready") {
  const auto bytes = encode(Reply(Forked{.ready_ns = 7}));
  const auto read = decode_reply(bytes);
  REQUIRE(read.ok());
  CHECK(std::get<Forked>(*read).ready_ns == 7);
  check_no_part_is_taken(bytes, decode_reply);
}

TEST_CASE("an end that gives no error is taken for one") {
  const auto read = decode_event(encode(Event(Ended{.why = Status(), .metrics = some_metrics()})));
  REQUIRE(read.ok());
  CHECK(absl::IsDataLoss(std::get<Ended>(*read).why));
  CHECK(std::get<Ended>(*read).metrics == some_metrics());
}

TEST_CASE("a log line of a level that there is not is refused") {
  auto bytes = encode(Event(LogLine{LogLevel::kWarning, "text"}));
  REQUIRE(decode_event(bytes).ok());
  bytes[1] = std::byte{17};
  CHECK(absl::IsDataLoss(decode_event(bytes).status()));
}

TEST_CASE("what stands behind an error's tag is never OK") {
  CHECK(absl::IsDataLoss(decode_stream_error(encode_stream_error(Status()))));
  CHECK(absl::IsUnavailable(decode_stream_error(encode_stream_error(absl::UnavailableError("x")))));
  CHECK(absl::IsDataLoss(decode_stream_error({})));
}

TEST_CASE("a message longer than a text may be is cut where it is written") {
  const Status status = absl::InternalError(std::string(kMaxText + 1, 'x'));
  const auto read = decode_reply(encode(Reply(Done{status})));
  REQUIRE(read.ok());
  CHECK(std::get<Done>(*read).status.message().size() == kMaxText);
}
