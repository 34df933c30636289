// Stacks of threads: apart from each other, few mappings, and given back.
#include "vmm/memory/stack_pool.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>
#include <vector>

#include <catch2/catch.hpp>

#include "vmm/base/fault_plan.h"

using namespace ramet;

namespace {

constexpr size_t kBytes = 16 * kPageSize;

// Whether the kernel can read a byte there.
bool readable(const std::byte* at) {
  std::array<int, 2> ends = {};
  REQUIRE(::pipe(ends.data()) == 0);
  const ssize_t written = ::write(ends[1], at, 1);
  const int error = errno;
  ::close(ends[0]);
  ::close(ends[1]);
  CHECK((written == 1 || error == EFAULT));
  return written == 1;
}

std::vector<StackPool::Stack> take(StackPool* pool, size_t count) {
  std::vector<StackPool::Stack> stacks;
  for (size_t i = 0; i < count; ++i) {
    auto stack = pool->take();
    INFO(stack.status().ToString());
    REQUIRE(stack.ok());
    stacks.push_back(*std::move(stack));
  }
  return stacks;
}

}  // namespace

TEST_CASE("below each stack lies a page that cannot be touched, and all of the stack can be") {
  StackPool pool(kBytes);
  const auto stacks = take(&pool, StackPool::kStacksInMapping + 1);
  for (const auto& stack : stacks) {
    REQUIRE(stack.bytes().size() == kBytes);
    CHECK_FALSE(readable(stack.bytes().data() - 1));
    stack.bytes().front() = std::byte{1};
    stack.bytes().back() = std::byte{2};
    CHECK(readable(stack.bytes().data()));
  }
}

TEST_CASE(
    "a stack has one owner: no two that are taken are the same, and one given back is taken") {
  StackPool pool(kBytes);
  auto stacks = take(&pool, 100);
  std::set<const std::byte*> starts;
  for (const auto& stack : stacks) {
    starts.insert(stack.bytes().data());
  }
  CHECK(starts.size() == 100);
  const std::byte* const last = stacks.back().bytes().data();
  stacks.pop_back();
  stacks.push_back(*pool.take());
  CHECK(starts.contains(stacks.back().bytes().data()));
  CHECK(last != nullptr);
}

TEST_CASE("32 stacks are one mapping; of those nobody uses one is kept, until it is trimmed") {
  StackPool pool(kBytes);
  CHECK(pool.mappings() == 0);
  auto stacks = take(&pool, 3 * StackPool::kStacksInMapping);
  CHECK(pool.mappings() == 3);
  pool.trim();
  CHECK(pool.mappings() == 3);
  stacks.clear();
  CHECK(pool.mappings() == 1);
  pool.trim();
  CHECK(pool.mappings() == 0);
}

TEST_CASE("a stack for which the host has no memory is a Status, and nothing is left of it") {
  StackPool pool(kBytes);
  for (const sys::Call call : {sys::Call::kMmap, sys::Call::kMadvise}) {
    for (const uint64_t n : std::initializer_list<uint64_t>{1, 2, 3, 4, 20}) {
      sys::FaultPlan plan(call, n, ENOMEM);
      plan.arm();
      const auto stack = pool.take();
      plan.disarm();
      CHECK(stack.ok() != plan.fired());
      CHECK(pool.mappings() == (stack.ok() ? 1 : 0));
      pool.trim();
    }
  }
}

TEST_CASE("where the kernel has no guards without a mapping, the page below a stack is one") {
  StackPool pool(kBytes);
  // After the three pieces of advice for the mapping itself, every guard is refused so.
  sys::FaultPlan plan(sys::Call::kMadvise, 4, EINVAL, true);
  plan.arm();
  const auto stack = pool.take();
  plan.disarm();
  CHECK(plan.fired());
  INFO(stack.status().ToString());
  REQUIRE(stack.ok());
  CHECK_FALSE(readable(stack->bytes().data() - 1));
  CHECK(readable(stack->bytes().data()));
}
