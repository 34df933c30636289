// The guest's console: lines as they come, the end of it kept, never more than a bound.
#include "lib/instance/console.h"

#include <future>
#include <memory>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "vmm/base/clock.h"

using namespace ramet;

namespace {

void print(Console* console, std::string_view text) {
  for (const char c : text) {
    console->append(static_cast<std::byte>(c));
  }
}

// The thread for the embedder's code.
class Calls {
 public:
  WorkerPool* get() const { return pool_->get(); }
  void drain() const { REQUIRE(get()->drain(monotonic_ns() + 60'000'000'000).ok()); }

 private:
  StatusOr<std::unique_ptr<jail::Jail>> jail_ = jail::Jail::create({.mode = jail::Mode::kOff});
  StatusOr<std::unique_ptr<WorkerPool>> pool_ = WorkerPool::start_unconfined(jail_->get(), "calls");
};

}  // namespace

TEST_CASE("the listener gets whole lines, and the unfinished one at the end") {
  const Calls calls;
  std::vector<std::string> lines;
  {
    Console console(calls.get(), [&](std::string_view line) { lines.emplace_back(line); });
    print(&console, "one\ntwo\n\nthr");
    calls.drain();
    CHECK(lines == std::vector<std::string>{"one\n", "two\n", "\n"});
    print(&console, "ee");
  }
  CHECK(lines == std::vector<std::string>{"one\n", "two\n", "\n", "three"});
}

TEST_CASE("a line without an end is passed on in parts of bounded size, losing nothing") {
  const Calls calls;
  std::string all;
  size_t longest = 0;
  const std::string text(100'000, 'x');
  {
    Console console(calls.get(), [&](std::string_view line) {
      longest = std::max(longest, line.size());
      all += line;
    });
    print(&console, text);
  }
  CHECK(longest == Console::kMaxLine);
  CHECK(all == text);
}

TEST_CASE("the last lines are joined, without blank ones, printable, and no more than asked for") {
  Console console(nullptr, {});
  CHECK(console.last_lines(4).empty());
  print(&console, "one\n\n  \ntwo\r\nth\x1b[31mree\nfo\xffur\nunfinished");
  CHECK(console.last_lines(2) == "fo ur | unfinished");
  CHECK(console.last_lines(100) == "one | two  | th [31mree | fo ur | unfinished");
  CHECK(console.last_lines(0).empty());
}

TEST_CASE("however much the guest prints, only the end is kept") {
  Console console(nullptr, {});
  for (int i = 0; i < 20'000; ++i) {
    print(&console, "line " + std::to_string(i) + "\n");
  }
  const std::string kept = console.last_lines(1'000'000);
  CHECK(kept.size() <= 4 * Console::kKeptBytes);  // " | " for each end of line
  CHECK(kept.size() >= Console::kKeptBytes);
  CHECK(console.last_lines(2) == "line 19998 | line 19999");
  print(&console, std::string(1'000'000, '\n'));
  CHECK(console.last_lines(10).empty());
}

TEST_CASE("a listener slower than its guest never holds it up, and is told what it missed") {
  const Calls calls;
  std::promise<void> go;
  const auto gate = go.get_future().share();
  std::string all;
  const std::string line(Console::kMaxLine - 1, 'x');
  const size_t lines = 2 * Console::kMaxWaiting / Console::kMaxLine;
  {
    Console console(calls.get(), [&](std::string_view text) {
      gate.wait();
      all += text;
    });
    for (size_t i = 0; i < lines; ++i) {
      print(&console, line + "\n");
    }
    go.set_value();
    calls.drain();
    print(&console, "the last\n");
  }
  CHECK(all.size() >= Console::kMaxWaiting);
  CHECK(all.size() < Console::kMaxWaiting + 200);
  CHECK(all.find("bytes of the console were dropped]\nthe last\n") != std::string::npos);
}

TEST_CASE("a listener that has not caught up when its machine goes is told what it missed") {
  const Calls calls;
  std::promise<void> go;
  const auto gate = go.get_future().share();
  std::string all;
  const std::string line = std::string(Console::kMaxLine - 1, 'x') + "\n";
  const size_t fit = Console::kMaxWaiting / line.size();
  std::thread opener;
  {
    Console console(calls.get(), [&](std::string_view text) {
      gate.wait();
      all += text;
    });
    for (size_t i = 0; i < fit + 3; ++i) {
      print(&console, line);
    }
    opener = std::thread([&] { go.set_value(); });
  }
  opener.join();
  CHECK(all.find(line) == 0);
  CHECK(all.size() > fit * line.size());
  const std::string notice =
      std::to_string(3 * line.size()) + " bytes of the console were dropped]\n";
  CHECK(all.rfind(notice) == all.size() - notice.size());
}

TEST_CASE("what a listener holds is destroyed on the thread for the embedder's code") {
  const Calls calls;
  std::thread::id calls_thread;
  calls.get()->post([&] { calls_thread = std::this_thread::get_id(); });
  std::thread::id destroyed_on;
  {
    auto held = std::shared_ptr<int>(new int(1), [&](const int* value) {
      destroyed_on = std::this_thread::get_id();
      delete value;
    });
    Console console(calls.get(), [held = std::move(held)](std::string_view) {});
    print(&console, "a line\n");
  }
  CHECK(destroyed_on == calls_thread);
  CHECK(calls_thread != std::this_thread::get_id());
}

TEST_CASE("without a thread for it the listener is called at once, by who prints") {
  std::vector<std::string> lines;
  {
    Console console(nullptr, [&](std::string_view line) { lines.emplace_back(line); });
    print(&console, "one\ntw");
    CHECK(lines == std::vector<std::string>{"one\n"});
    print(&console, "o\nthree");
    CHECK(lines == std::vector<std::string>{"one\n", "two\n"});
  }
  CHECK(lines == std::vector<std::string>{"one\n", "two\n", "three"});
}
