// Each row of each policy: the compiled filter allows what it allows and nothing beside it.
#include "vmm/jail/policy.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <random>
#include <set>

#include <catch2/catch.hpp>

#include "tests/support/skip.h"
#include "tests/unit/vmm_jail/bpf.h"
#include "vmm/jail/filter.h"

using namespace ramet;
using namespace ramet::jail;
using ramet::testing::Call;
using ramet::testing::evaluate;

namespace {

constexpr uint32_t kX32Bit = 0x40000000;

constexpr std::array kIoctls = {
    IoctlRow{"KVM_RUN", 0xae80, "a vCPU"},
    IoctlRow{"KVM_SIGNAL_MSI", 0x4020aea5, "an interrupt"},
};

constexpr std::array kWatchIoctls = {IoctlRow{"PAGEMAP_SCAN", 0xc0606610, "private memory"}};

PolicyFacts facts() {
  return {.pid = 4711,
          .kick_signal = 40,
          .vcpu_ioctls = kIoctls,
          .worker_ioctls = std::span(kIoctls).last(1),
          .watch_ioctls = kWatchIoctls,
          .helper_ioctls = kIoctls,
          .in_helper = true};
}

int number_of(std::string_view name) {
  return seccomp_syscall_resolve_name(std::string(name).c_str());
}

Filter compiled(ThreadKind kind, Refusal refusal = Refusal::kNotify) {
  auto filter = Filter::compile(policy_of(kind, facts()), refusal);
  REQUIRE(filter.ok());
  return *std::move(filter);
}

// A call that meets all rules of a row; where a rule leaves bits open they are set at random.
Call allowed_by(const PolicyRow& row, std::mt19937_64* random) {
  Call call = {.number = number_of(row.syscall), .architecture = AUDIT_ARCH_X86_64};
  for (uint64_t& argument : call.arguments) {
    argument = (*random)();
  }
  for (const ArgumentRule& rule : row.rules) {
    call.arguments[rule.index] = (call.arguments[rule.index] & ~rule.mask) | rule.value;
  }
  return call;
}

bool is_allowed(const Policy& policy, const PolicyRow& row, const Call& call) {
  return match(policy, row.syscall, call.arguments).has_value();
}

std::string text(ThreadKind kind, const PolicyRow& row) {
  return std::string(name_of(kind)) + ": " + std::string(row.syscall) + ", " +
         std::string(row.needed_by);
}

}  // namespace

TEST_CASE("each row allows calls that meet its rules, and no call that breaks one of them") {
  std::mt19937_64 random(1);
  for (const ThreadKind kind : kThreadKinds) {
    const Policy policy = policy_of(kind, facts());
    const Filter filter = compiled(kind);
    for (const PolicyRow& row : policy) {
      INFO(text(kind, row));
      const Call good = allowed_by(row, &random);
      CHECK(evaluate(filter, good) == SECCOMP_RET_ALLOW);
      for (const ArgumentRule& rule : row.rules) {
        for (int bit = 0; bit < 64; ++bit) {
          if ((rule.mask >> bit & 1) == 0) {
            continue;
          }
          Call bad = good;
          bad.arguments[rule.index] ^= uint64_t{1} << bit;
          // Another row of the same call may allow just that.
          const bool elsewhere = is_allowed(policy, row, bad);
          CHECK(evaluate(filter, bad) == (elsewhere ? SECCOMP_RET_ALLOW : SECCOMP_RET_USER_NOTIF));
        }
      }
    }
  }
}

TEST_CASE("every system call that has no row is refused, whatever its arguments") {
  std::mt19937_64 random(2);
  for (const ThreadKind kind : kThreadKinds) {
    const Policy policy = policy_of(kind, facts());
    const Filter filter = compiled(kind);
    const Filter silent = compiled(kind, Refusal::kErrno);
    std::set<int> with_row;
    for (const PolicyRow& row : policy) {
      with_row.insert(number_of(row.syscall));
    }
    for (int number = -1; number < 1024; ++number) {
      if (with_row.contains(number)) {
        continue;
      }
      Call call = {.number = number, .architecture = AUDIT_ARCH_X86_64};
      std::ranges::generate(call.arguments, std::ref(random));
      INFO(name_of(kind) << ": system call " << number);
      CHECK(evaluate(filter, call) == SECCOMP_RET_USER_NOTIF);
      CHECK(evaluate(silent, call) == (SECCOMP_RET_ERRNO | EPERM));
    }
  }
}

TEST_CASE("the system call tables of i386 and x32 are closed, also for numbers that have a row") {
  std::mt19937_64 random(3);
  for (const ThreadKind kind : kThreadKinds) {
    const Filter filter = compiled(kind);
    for (const PolicyRow& row : policy_of(kind, facts())) {
      INFO(text(kind, row));
      Call call = allowed_by(row, &random);
      call.architecture = AUDIT_ARCH_I386;
      CHECK(evaluate(filter, call) == SECCOMP_RET_USER_NOTIF);
      call.architecture = AUDIT_ARCH_X86_64;
      call.number = static_cast<int>(static_cast<uint32_t>(call.number) | kX32Bit);
      CHECK(evaluate(filter, call) == SECCOMP_RET_USER_NOTIF);
    }
  }
}

TEST_CASE("match() and the compiled filter agree on a million random calls") {
  std::mt19937_64 random(4);
  // Values that rules look for, so that random calls meet some of them.
  const std::array<uint64_t, 12> interesting = {
      0, 1, 3, 4, 8, 9, 32, 4711, SIGABRT, 0xffffffff, 0xae80, ~uint64_t{0}};
  for (const ThreadKind kind : kThreadKinds) {
    const Policy policy = policy_of(kind, facts());
    const Filter filter = compiled(kind);
    size_t allowed = 0;
    for (int round = 0; round < 250'000; ++round) {
      const PolicyRow& row = policy[random() % policy.size()];
      Call call = {.number = number_of(row.syscall), .architecture = AUDIT_ARCH_X86_64};
      for (uint64_t& argument : call.arguments) {
        argument = interesting[random() % interesting.size()];
      }
      const bool matches = is_allowed(policy, row, call);
      allowed += matches ? 1 : 0;
      if ((evaluate(filter, call) == SECCOMP_RET_ALLOW) != matches) {
        FAIL(text(kind, row));
      }
    }
    CHECK(allowed > 1000);
    CHECK(allowed < 249'000);
  }
}

TEST_CASE("a signal goes to no process but this one") {
  for (const ThreadKind kind : kThreadKinds) {
    const Filter filter = compiled(kind);
    Call kick = {.number = number_of("tgkill"),
                 .architecture = AUDIT_ARCH_X86_64,
                 .arguments = {4711, 4712, 40, 0, 0, 0}};
    CHECK(evaluate(filter, kick) == SECCOMP_RET_ALLOW);
    kick.arguments[0] = 1;
    CHECK(evaluate(filter, kick) == SECCOMP_RET_USER_NOTIF);
    kick.arguments = {4711, 4712, SIGKILL, 0, 0, 0};
    CHECK(evaluate(filter, kick) == SECCOMP_RET_USER_NOTIF);
  }
}

// docs/specification.md: at most 20 for a vCPU thread, at most 40 for a device thread.
TEST_CASE("a vCPU thread has at most 20 distinct system calls, every other kind at most 40") {
#if defined(RAMET_SANITIZED)
  RAMET_SKIP("a sanitizer's build has rows of its own");
#else
  for (const ThreadKind kind : kThreadKinds) {
    const size_t count = distinct_calls(policy_of(kind, facts()));
    INFO(name_of(kind) << ": " << count);
    CHECK(count <= (kind == ThreadKind::kVcpu ? 20 : 40));
  }
#endif
}

TEST_CASE("each row says what it allows and who needs it, and no row is there twice") {
#if defined(RAMET_SANITIZED)
  RAMET_SKIP("a sanitizer's build has rows of its own");
#endif
  for (const ThreadKind kind : kThreadKinds) {
    const Policy policy = policy_of(kind, facts());
    for (size_t i = 0; i < policy.size(); ++i) {
      INFO(text(kind, policy[i]));
      CHECK_FALSE(policy[i].needed_by.empty());
      CHECK(policy[i].what.empty() == policy[i].rules.empty());
      CHECK(std::ranges::none_of(policy.begin() + static_cast<std::ptrdiff_t>(i) + 1, policy.end(),
                                 [&](const PolicyRow& other) {
                                   return other.syscall == policy[i].syscall &&
                                          std::ranges::equal(
                                              other.rules, policy[i].rules,
                                              [](const ArgumentRule& a, const ArgumentRule& b) {
                                                return a.index == b.index && a.mask == b.mask &&
                                                       a.value == b.value;
                                              });
                                 }));
    }
  }
}

TEST_CASE("a policy that names no system call is refused when it is compiled") {
  const auto filter = Filter::compile({{"no_such_call", {}, "", "nobody"}}, Refusal::kNotify);
  REQUIRE_FALSE(filter.ok());
  CHECK(filter.status().message().find("no_such_call") != std::string::npos);
}
