// Reasons travel in a Status, and the innermost stays.
#include "lib/instance/reasons.h"

#include <catch2/catch.hpp>

using namespace ramet;

TEST_CASE("a status carries its reason through annotations, and the first reason stays") {
  Status status = with_reason(absl::InternalError("it broke"), reason::kGuestDied);
  status = with_reason(annotate(status, "exec"), reason::kGuestHung);
  CHECK(reason_of(status) == reason::kGuestDied);
  CHECK(status.message() == "exec: it broke");
}

TEST_CASE("OK carries no reason, and a status without one has an empty one") {
  CHECK(with_reason(Status(), reason::kKilled) == Status());
  CHECK(reason_of(Status()).empty());
  CHECK(reason_of(absl::InternalError("x")).empty());
}

TEST_CASE("a limit that was hit, and when to try again, come back from a status through clauses") {
  for (const LimitKind kind : kLimitKinds) {
    const LimitHit hit = {kind, 67'108'864, UINT64_MAX};
    const Status status = annotate(limit_status(hit), "exec");
    CHECK(status.code() == absl::StatusCode::kResourceExhausted);
    CHECK(reason_of(status) ==
          (kind == LimitKind::kPrivateMemory ? reason::kOutOfMemory : reason::kLimitReached));
    CHECK(limit_of(status) == hit);
    CHECK_FALSE(retry_after_ms_of(status));
  }
  const Status busy = annotate(busy_status("no memory", 2'500), "fork");
  CHECK(busy.code() == absl::StatusCode::kResourceExhausted);
  CHECK(reason_of(busy) == reason::kHostBusy);
  CHECK(busy.message() == "fork: the host is busy: no memory; try again in 2500 ms");
  CHECK(retry_after_ms_of(busy) == 2'500);
  CHECK_FALSE(limit_of(busy));
}

TEST_CASE("a payload that is none of ours is no limit and no time") {
  for (const char* text :
       {"", "private_memory", "private_memory 1", "private_memory 1 x", "private_memory 1 2 3",
        "unheard_of 1 2", "private_memory -1 2", "private_memory 99999999999999999999999 2"}) {
    Status status = absl::InternalError("x");
    status.SetPayload(kLimitUrl, absl::Cord(text));
    status.SetPayload(kRetryAfterUrl, absl::Cord(text));
    INFO(text);
    CHECK_FALSE(limit_of(status));
    CHECK_FALSE(retry_after_ms_of(status));
  }
}

TEST_CASE("one conversation too many is a limit that was reached, and other errors stay") {
  const Status refused = as_connection_limit(absl::ResourceExhaustedError("a table is full"), 7);
  CHECK(reason_of(refused) == reason::kLimitReached);
  CHECK(limit_of(refused) == LimitHit{LimitKind::kConnections, 7, 8});
  CHECK(as_connection_limit(absl::UnavailableError("gone"), 7) == absl::UnavailableError("gone"));
  CHECK(as_connection_limit(Status(), 7).ok());
}
