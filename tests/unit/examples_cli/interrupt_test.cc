#include "examples/cli/interrupt.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

#include <catch2/catch.hpp>

using cli::AfterSignal;
using cli::Interrupts;

namespace {

// Runs `body` in a process of its own. Its exit code, or -1.
int exit_code_of_process(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(body());
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
    return -1;
  }
  return WEXITSTATUS(status);
}

void sleep_long() { std::this_thread::sleep_for(std::chrono::seconds(20)); }

}  // namespace

TEST_CASE("a signal without an action ends the process with 128 + its number") {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    CHECK(exit_code_of_process([number] {
            const auto interrupts = Interrupts::create();
            ::kill(::getpid(), number);
            sleep_long();
            return 0;
          }) == 128 + number);
  }
}

TEST_CASE("an action runs on a thread, and may let the main thread finish") {
  CHECK(exit_code_of_process([] {
          const auto interrupts = Interrupts::create();
          std::atomic<int> seen = 0;
          const Interrupts::Scope scope(interrupts, [&](int number) {
            seen = number;
            return AfterSignal::kLetFinish;
          });
          ::kill(::getpid(), SIGINT);
          while (seen == 0) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
          return interrupts->received() == SIGINT ? 42 : 1;
        }) == 42);
}

TEST_CASE("an action that exits keeps the main thread from going on") {
  CHECK(exit_code_of_process([] {
          const auto interrupts = Interrupts::create();
          std::atomic<bool> acting = false;
          {
            const Interrupts::Scope scope(interrupts, [&](int) {
              acting = true;
              std::this_thread::sleep_for(std::chrono::milliseconds(50));
              return AfterSignal::kExitNow;
            });
            ::kill(::getpid(), SIGTERM);
            while (!acting) {
              std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
          }
          return 1;
        }) == 128 + SIGTERM);
}

TEST_CASE("a second signal ends the process even while the action hangs") {
  CHECK(exit_code_of_process([] {
          const auto interrupts = Interrupts::create();
          std::atomic<bool> acting = false;
          const Interrupts::Scope scope(interrupts, [&](int) {
            acting = true;
            sleep_long();
            return AfterSignal::kLetFinish;
          });
          ::kill(::getpid(), SIGINT);
          while (!acting) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
          ::kill(::getpid(), SIGINT);
          sleep_long();
          return 0;
        }) == 130);
}
