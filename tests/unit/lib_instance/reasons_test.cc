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
