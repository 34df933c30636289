#include <catch2/catch.hpp>

#include "examples/cli/clocks.h"
#include "examples/cli/console.h"
#include "examples/cli/doctor_text.h"
#include "examples/cli/error.h"
#include "examples/cli/json.h"
#include "examples/cli/progress.h"
#include "examples/cli/table.h"

using cli::Json;

TEST_CASE("a table's columns are as wide as their widest cell, and no line ends in a space") {
  cli::Table table({"NAME", "SIZE", "NOTE"}, {cli::Align::kLeft, cli::Align::kRight});
  table.add({"a", "1"});
  table.add({"longer", "1000", "x", "surplus"});
  CHECK(table.text() ==
        "NAME    SIZE  NOTE\n"
        "a          1\n"
        "longer  1000  x\n");
  CHECK(table.text(2).substr(0, 6) == "  NAME");
}

TEST_CASE("a table without headings has no line for them, and counts UTF-8 characters") {
  cli::Table table({"", ""});
  table.add({"\xc3\xa9", "x"});
  table.add({"ab", "y"});
  CHECK(table.text() == "\xc3\xa9   x\nab  y\n");
}

TEST_CASE("control characters never reach the terminal through a table") {
  cli::Table table({"A"});
  table.add({"x\033[2Jy\n\x7f"});
  CHECK(table.text() == "A\nx?[2Jy??\n");
  CHECK(cli::printable("a\tb\nc\r", "\n\t") == "a\tb\nc?");
}

TEST_CASE("a clock that did not happen is n/a, and null in JSON") {
  sandbox::Metrics metrics;
  metrics.clocks.shell_ready = std::chrono::microseconds(250);
  const auto list = cli::clock_list(metrics.clocks);
  CHECK(cli::format_clock(list[0].value) == "250 us");
  CHECK(cli::format_clock(list[4].value) == "n/a");
  const Json json = cli::run_json({}, metrics, "ramet-1");
  CHECK(json["clocks"]["shell_ready_ns"] == 250'000);
  CHECK(json["clocks"]["first_agent_reply_ns"].is_null());
  CHECK(json["clocks"].size() == 5);
}

TEST_CASE("bytes that are not UTF-8 are base64 under another name") {
  Json object;
  cli::set_bytes(object, "stdout", "gr\xc3\xbc\xc3\x9f\n");
  cli::set_bytes(object, "stderr", "\xff\x00");
  CHECK(object["stdout"] == "gr\xc3\xbc\xc3\x9f\n");
  CHECK(!object.contains("stderr"));
  CHECK(object["stderr_base64"] == "/w==");
}

TEST_CASE("a result's JSON parses back, whatever the guest printed") {
  sandbox::ExecResult result;
  result.exit_code = 3;
  result.stdout_data = std::string("\"\\\n\0\x01", 5);
  result.stderr_data = "\xc3";
  result.wall_time = std::chrono::milliseconds(5);
  const Json back = Json::parse(cli::json_text(cli::run_json(result, {}, "h")));
  CHECK(back["exit_code"] == 3);
  CHECK(back["stdout"] == result.stdout_data);
  CHECK(back["stderr_base64"] == "ww==");
  CHECK(back["wall_time_ns"] == 5'000'000);
}

TEST_CASE("an error's JSON has code, reason and message, and a hint where there is one") {
  const Json plain = cli::error_json(
      {.code = "NOT_FOUND", .reason = "kvm_missing", .message = "m", .hint = {}, .console = {}});
  CHECK(plain ==
        Json{{"error", {{"code", "NOT_FOUND"}, {"reason", "kvm_missing"}, {"message", "m"}}}});
  const Json full = cli::error_json(
      {.code = "X", .reason = "none", .message = "m", .hint = "do", .console = "panic"});
  CHECK(full["error"]["hint"] == "do");
  CHECK(full["error"]["console"] == "panic");
}

TEST_CASE("an error that names invalid UTF-8 is still a document") {
  const std::string text = cli::json_text(cli::error_json(
      {.code = "X", .reason = "none", .message = "file \xff", .hint = {}, .console = {}}));
  CHECK(Json::accept(text));
}

TEST_CASE("an error for people begins with ramet: and ends with the guest's last lines") {
  CHECK(cli::error_lines({.code = "X",
                          .reason = "none",
                          .message = "it\033 failed",
                          .hint = "do this",
                          .console = "one\ntwo"}) ==
        "ramet: it? failed\n"
        "  do this\n"
        "  the guest's console ended with:\n"
        "    | one\n"
        "    | two\n");
}

TEST_CASE("hints name the template they are about") {
  using absl::StatusCode;
  CHECK(cli::hint_for(sandbox::Reason::kBadTemplate, StatusCode::kDataLoss, "py")
            .find("`ramet template rm py`") != std::string::npos);
  CHECK(cli::hint_for(sandbox::Reason::kNone, StatusCode::kAlreadyExists, "py").find("rm py") !=
        std::string::npos);
  CHECK(cli::hint_for(sandbox::Reason::kKvmDenied, StatusCode::kPermissionDenied, "")
            .find("group kvm") != std::string::npos);
  CHECK(cli::hint_for(sandbox::Reason::kNone, StatusCode::kInvalidArgument, "py").empty());
}

TEST_CASE("the doctor says of each kind of KVM what follows") {
  sandbox::HostReport report;
  report.capabilities = {{"SPLIT_IRQCHIP", false, true, "interrupts"},
                         {"PRE_FAULT_MEMORY", false, false, "speed"}};
  report.findings = {{sandbox::Finding::Level::kProblem, "few files: 20", "raise the limit"}};
  const std::string none = cli::doctor_text(report, false);
  CHECK(none.find("no guest runs") != std::string::npos);
  CHECK(none.find("NOT usable") != std::string::npos);
  CHECK(none.find("SPLIT_IRQCHIP     MISSING") != std::string::npos);
  CHECK(none.find("PRE_FAULT_MEMORY  no       speed (optional)") != std::string::npos);
  CHECK(none.find("problem  few files: 20\n         -> raise the limit\n") != std::string::npos);
  report.kvm = sandbox::KvmKind::kSoftware;
  CHECK(cli::doctor_text(report, false).find("Linux guests do not") != std::string::npos);
  report.kvm = sandbox::KvmKind::kHardware;
  CHECK(cli::doctor_text(report, true).find("\nusable: ") != std::string::npos);
  CHECK(cli::host_json(report)["kvm"] == "hardware");
  CHECK(cli::host_json(report)["findings"][0]["level"] == "problem");
}

TEST_CASE("a progress line shows the share that is done") {
  using std::chrono::milliseconds;
  CHECK(cli::progress_line("boot", 1, 2, milliseconds(1234)) ==
        "[############------------] 1/2  boot  1.2 s");
  CHECK(cli::progress_line("x", 0, 0, milliseconds(0)) ==
        "[------------------------] 0/0  x  0.0 s");
  CHECK(cli::progress_line("x\033", 9, 2, milliseconds(0)).find("x?") != std::string::npos);
}

TEST_CASE("progress keeps the steps in order and what each took") {
  cli::Progress progress(cli::Progress::Style::kNone);
  progress.step({.step = "boot", .done = 0, .total = 2});
  progress.step({.step = "freeze", .done = 1, .total = 2});
  const auto steps = progress.finish();
  REQUIRE(steps.size() == 2);
  CHECK(steps[0].name == "boot");
  CHECK(steps[1].name == "freeze");
  CHECK(steps[0].took.count() >= 0);
}

TEST_CASE("the console's tail is whole lines, printable, and bounded") {
  cli::ConsoleTap tap(false);
  CHECK(tap.tail(5).empty());
  tap.take("one\r\ntw");
  tap.take("o\033[0m\r\nthree\r\n");
  CHECK(tap.tail(2) == "two?[0m\nthree");
  CHECK(tap.tail(99) == "one\ntwo?[0m\nthree");
  CHECK(tap.tail(0).empty());
  for (int i = 0; i < 1000; ++i) {
    tap.take(std::string(1000, 'x'));
  }
  CHECK(tap.tail(10).size() <= cli::ConsoleTap::kKept);
}
