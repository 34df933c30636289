// The guest's console: lines as they come, the end of it kept, never more than a bound.
#include "lib/core/console.h"

#include <vector>

#include <catch2/catch.hpp>

using namespace ramet;

namespace {

void print(Console* console, std::string_view text) {
  for (const char c : text) {
    console->append(static_cast<std::byte>(c));
  }
}

}  // namespace

TEST_CASE("the listener gets whole lines, and the unfinished one at the end") {
  std::vector<std::string> lines;
  {
    Console console([&](std::string_view line) { lines.emplace_back(line); });
    print(&console, "one\ntwo\n\nthr");
    CHECK(lines == std::vector<std::string>{"one\n", "two\n", "\n"});
    print(&console, "ee");
  }
  CHECK(lines == std::vector<std::string>{"one\n", "two\n", "\n", "three"});
}

TEST_CASE("a line without an end is passed on in parts of bounded size, losing nothing") {
  std::string all;
  size_t longest = 0;
  const std::string text(100'000, 'x');
  {
    Console console([&](std::string_view line) {
      longest = std::max(longest, line.size());
      all += line;
    });
    print(&console, text);
  }
  CHECK(longest == Console::kMaxLine);
  CHECK(all == text);
}

TEST_CASE("the last lines are joined, without blank ones, printable, and no more than asked for") {
  Console console({});
  CHECK(console.last_lines(4).empty());
  print(&console, "one\n\n  \ntwo\r\nth\x1b[31mree\nfo\xffur\nunfinished");
  CHECK(console.last_lines(2) == "fo ur | unfinished");
  CHECK(console.last_lines(100) == "one | two  | th [31mree | fo ur | unfinished");
  CHECK(console.last_lines(0).empty());
}

TEST_CASE("however much the guest prints, only the end is kept") {
  Console console({});
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
