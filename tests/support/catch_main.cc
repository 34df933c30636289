// The main function of every test program, and the listener that tells tests/run what happened: one
// line per event in the file named by RAMET_TEST_LOG, written at once, so that a program that dies
// or hangs leaves the name of the test it was in.
//   program                                      the run began
//   start TAB name
//   end TAB name TAB passed|failed|skipped TAB seconds TAB why
#define CATCH_CONFIG_MAIN
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/skip.h"

#if defined(RAMET_SANITIZED)
// Of the sanitizers' run-time (compiler-rt, include/sanitizer/common_interface_defs.h).
extern "C" {
void __sanitizer_symbolize_pc(void* pc, const char* format, char* out, size_t size);
// A Status's count of references is kept by a library that is not instrumented: that the last
// holder comes after the others is not seen.
__attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "race:absl::*::Status::Unref\nrace:Unref\n";
}
}
#endif

namespace ramet::testing {
namespace {

// Has the sanitizer read the program's symbols: a report from a confined thread has none otherwise,
// and no suppression holds, because the files could not be opened then. And lets it start the
// thread that TSan starts with the program's first, before tests count them.
void warm_up_sanitizer() {
#if defined(RAMET_SANITIZED)
  std::thread([] {}).join();
  std::array<char, 256> symbol = {};
  __sanitizer_symbolize_pc(reinterpret_cast<void*>(&warm_up_sanitizer), "%f", symbol.data(),
                           symbol.size());
#endif
}

// One test program runs one test case at a time.
std::string& skip_reason() {
  static std::string reason;
  return reason;
}

std::string one_line(std::string text) {
  for (char& c : text) {
    c = c == '\t' || c == '\n' ? ' ' : c;
  }
  return text;
}

void log_event(const std::string& line) {
  const char* path =
      std::getenv("RAMET_TEST_LOG");  // NOLINT(concurrency-mt-unsafe): never set here
  if (path == nullptr) {
    return;
  }
  if (std::FILE* file = std::fopen(path, "ae"); file != nullptr) {
    std::fputs((line + "\n").c_str(), file);
    std::fclose(file);
  }
}

class LogListener : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;

  void testRunStarting(const Catch::TestRunInfo& info) override {
    TestEventListenerBase::testRunStarting(info);
    warm_up_sanitizer();
    log_event("program");
  }

  void testCaseStarting(const Catch::TestCaseInfo& info) override {
    TestEventListenerBase::testCaseStarting(info);
    skip_reason().clear();
    started_ = std::chrono::steady_clock::now();
    log_event("start\t" + one_line(info.name));
  }

  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started_;
    std::string outcome = skip_reason().empty() ? "passed" : "skipped";
    if (stats.totals.testCases.failed > 0) {
      outcome = "failed";
    }
    log_event("end\t" + one_line(stats.testInfo.name) + "\t" + outcome + "\t" +
              std::to_string(took.count()) + "\t" + one_line(skip_reason()));
    TestEventListenerBase::testCaseEnded(stats);
  }

 private:
  std::chrono::steady_clock::time_point started_;
};

CATCH_REGISTER_LISTENER(LogListener)

}  // namespace

void record_skip(const std::string& why) { skip_reason() = why.empty() ? "no reason given" : why; }

}  // namespace ramet::testing
