#include "lib/helper/recently_used.h"

#include <memory>

#include <catch2/catch.hpp>

namespace ramet::helper {
namespace {

using Numbers = RecentlyUsed<const int>;

TEST_CASE("what is used is kept alive for as long as its user wants it") {
  Numbers numbers(2);
  auto number = std::make_shared<const int>(1);
  const std::weak_ptr<const int> alive = number;
  auto kept = numbers.use(std::move(number));
  CHECK(alive.lock() == kept->get());
  kept.reset();
  CHECK(alive.expired());
}

TEST_CASE("no more is kept than was said, and what was used longest ago goes first") {
  Numbers numbers(2);
  const auto first = numbers.use(std::make_shared<const int>(1));
  const auto second = numbers.use(std::make_shared<const int>(2));
  CHECK(numbers.use(first->get()) == first);  // again
  const auto third = numbers.use(std::make_shared<const int>(3));
  CHECK(first->get() != nullptr);
  CHECK(second->get() == nullptr);
  CHECK(third->get() != nullptr);
}

TEST_CASE("what its user no longer wants takes no other's place") {
  Numbers numbers(2);
  const auto first = numbers.use(std::make_shared<const int>(1));
  numbers.use(std::make_shared<const int>(2));
  const auto third = numbers.use(std::make_shared<const int>(3));
  CHECK(first->get() != nullptr);
  CHECK(third->get() != nullptr);
}

TEST_CASE("what is no longer kept is kept anew when it is used again") {
  Numbers numbers(1);
  const auto number = std::make_shared<const int>(1);
  const auto before = numbers.use(number);
  const auto other = numbers.use(std::make_shared<const int>(2));
  REQUIRE(before->get() == nullptr);
  const auto again = numbers.use(number);
  CHECK(again->get() == number);
  CHECK(other->get() == nullptr);
}

}  // namespace
}  // namespace ramet::helper
