#include "examples/cli/arguments.h"

#include <filesystem>
#include <map>

#include <catch2/catch.hpp>

#include "examples/cli/exit_code.h"
#include "examples/cli/guest_environment.h"
#include "examples/cli/names.h"

using cli::parse_arguments;
using cli::Verb;

namespace {

cli::Environment environment(std::map<std::string, std::string> variables) {
  return [variables](const std::string& name) -> std::optional<std::string> {
    const auto at = variables.find(name);
    return at == variables.end() ? std::nullopt : std::optional(at->second);
  };
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("words behind -- are the command, untouched") {
  const auto out = parse_arguments(
      {"run", "py", "--json", "--timeout", "2s", "--", "sh", "-c", "--json", "--", "[a,b]", ""});
  CHECK(out.verb == Verb::kRun);
  CHECK(out.json);
  CHECK(out.timeout == std::chrono::seconds(2));
  CHECK(out.names == Words{"py"});
  CHECK(out.command == Words{"sh", "-c", "--json", "--", "[a,b]", ""});
}

TEST_CASE("a control group is for the process of --isolate, and refused without") {
  CHECK(parse_arguments({"run", "py", "--isolate", "--cgroup", "/x", "--", "true"}).cgroup == "/x");
  CHECK(parse_arguments({"doctor", "--cgroup", "/x"}).cgroup == "/x");
  const auto alone = parse_arguments({"run", "py", "--cgroup", "/x", "--", "true"});
  CHECK(alone.verb == Verb::kInvalid);
  CHECK(alone.error.find("--isolate") != std::string::npos);
}

TEST_CASE("run stays in this process unless it is told to --isolate") {
  CHECK_FALSE(parse_arguments({"run", "py", "--", "--isolate"}).isolate);
  CHECK(parse_arguments({"run", "py", "--isolate", "--", "true"}).isolate);
}

TEST_CASE("run without a command, or without --, says where the command goes") {
  for (const Words& words : {Words{"run", "py"}, Words{"run", "py", "--"}, Words{"run", "py", "ls"},
                             Words{"run", "py", "ls", "-l"}}) {
    const auto out = parse_arguments(words);
    CHECK(out.verb == Verb::kInvalid);
    CHECK(out.for_run);
    CHECK(out.error.find("--") != std::string::npos);
    CHECK(out.error.find("ls") != std::string::npos);
  }
}

TEST_CASE("each --limit sets one of the limits, and the last mention counts") {
  const auto out = parse_arguments({"run",     "py",           "--limit", "wall=30s",
                                    "--limit", "cpu=1m",       "--limit", "cpu-rate=500ms",
                                    "--limit", "memory=64M",   "--limit", "disk=1G:refuse",
                                    "--limit", "output=10K",   "--limit", "exits=1000:end",
                                    "--limit", "interrupts=0", "--limit", "connections=4",
                                    "--limit", "wall=20s",     "--",      "true"});
  REQUIRE(out.verb == Verb::kRun);
  using sandbox::LimitAction;
  CHECK(out.limits.wall_clock == std::chrono::seconds(20));
  CHECK(out.limits.cpu_time == std::chrono::minutes(1));
  CHECK(out.limits.cpu_milliseconds.per_second == 500);
  CHECK(out.limits.cpu_milliseconds.action == LimitAction::kThrottle);
  CHECK(out.limits.private_memory_bytes == 64 << 20);
  CHECK(out.limits.disk_bytes == 1 << 30);
  CHECK(out.limits.disk_action == LimitAction::kRefuse);
  CHECK(out.limits.output_bytes == 10 << 10);
  CHECK(out.limits.exits.per_second == 1000);
  CHECK(out.limits.exits.action == LimitAction::kEnd);
  CHECK(out.limits.interrupts.per_second == 0);
  CHECK(out.limits.connections == 4);
}

TEST_CASE("a --limit that cannot be understood is named, with what would be right") {
  for (const auto& [text, right] :
       std::map<std::string, std::string>{{"memory", "NAME=VALUE"},
                                          {"=1", "wall, cpu"},
                                          {"mem=64M", "memory"},
                                          {"memory=lots", "lots"},
                                          {"memory=64M:refuse", "colon"},
                                          {"exits=1:refuse", "throttle"},
                                          {"exits=-1", "whole number"},
                                          {"exits=1:", "follows"},
                                          {"disk=1:throttle", "refuse"},
                                          {"wall=soon", "soon"},
                                          {"connections=4294967296", "4294967295"}}) {
    const auto out = parse_arguments({"run", "py", "--limit", text, "--", "true"});
    INFO(text << ": " << out.error);
    CHECK(out.verb == Verb::kInvalid);
    CHECK(out.error.find(text) != std::string::npos);
    CHECK(out.error.find(right) != std::string::npos);
  }
}

TEST_CASE("each mention of --env and --warmup is one value, brackets and all") {
  const auto run = parse_arguments({"run", "-e", "A=[1,2]", "--env", "B", "py", "--", "env"});
  CHECK(run.verb == Verb::kRun);
  CHECK(run.env == Words{"A=[1,2]", "B"});
  CHECK(run.names == Words{"py"});
  const auto build = parse_arguments({"template", "build", "py", "--rootfs", "i", "--warmup",
                                      "[ -f /x ]", "--warmup", "python3 -c 'a, b'"});
  CHECK(build.verb == Verb::kTemplateBuild);
  CHECK(build.warmups == Words{"[ -f /x ]", "python3 -c 'a, b'"});
}

TEST_CASE("template build has defaults and reads sizes") {
  const auto plain = parse_arguments({"template", "build", "py", "--rootfs", "i"});
  CHECK(plain.memory_bytes == uint64_t{256} << 20);
  CHECK(plain.scratch_bytes == uint64_t{1} << 30);
  CHECK(plain.vcpus == 1);
  CHECK(plain.boot_timeout == std::chrono::seconds(60));
  const auto full = parse_arguments({"template", "build", "py", "--rootfs", "i", "--memory", "1G",
                                     "--scratch", "0", "--vcpus", "8"});
  CHECK(full.memory_bytes == uint64_t{1} << 30);
  CHECK(full.scratch_bytes == 0);
  CHECK(full.vcpus == 8);
}

TEST_CASE("a bad option is named together with what is wrong") {
  const auto memory =
      parse_arguments({"template", "build", "x", "--rootfs", "i", "--memory", "5X"});
  CHECK(memory.verb == Verb::kInvalid);
  CHECK(memory.error.rfind("--memory: \"5X\"", 0) == 0);
  for (const char* vcpus : {"0", "9", "-1", "two"}) {
    CHECK(parse_arguments({"template", "build", "x", "--rootfs", "i", "--vcpus", vcpus}).verb ==
          Verb::kInvalid);
  }
  CHECK(parse_arguments({"template", "build", "x"}).error.find("--rootfs") != std::string::npos);
  CHECK(parse_arguments({"run", "py", "--env", "=x", "--", "y"}).error.find("--env") == 0);
  CHECK(parse_arguments({"frob"}).error.find("frob") != std::string::npos);
  CHECK(parse_arguments({"template", "build", "a", "b", "--rootfs", "i"}).verb == Verb::kInvalid);
}

TEST_CASE("a command line that cannot be parsed keeps its --json") {
  CHECK(parse_arguments({"--json", "frob"}).json);
  CHECK(parse_arguments({"run", "--json"}).json);
  CHECK(!parse_arguments({"run", "py", "--", "x", "--json"}).json);
}

TEST_CASE("every command has help, and a command for the guest belongs to run only") {
  for (const Words& words :
       {Words{"--help"}, Words{"run", "--help"}, Words{"template", "--help"},
        Words{"template", "build", "--help"}, Words{"template", "ls", "-h"},
        Words{"template", "rm", "-h"}, Words{"doctor", "-h"}, Words{"version", "-h"}}) {
    const auto out = parse_arguments(words);
    CHECK(out.verb == Verb::kHelp);
    CHECK(out.help.find("Usage: ramet") != std::string::npos);
  }
  CHECK(parse_arguments({"run", "--help"}).help.find("-- COMMAND") != std::string::npos);
  CHECK(parse_arguments({"--version"}).verb == Verb::kVersion);
  CHECK(parse_arguments({"doctor", "--", "x"}).verb == Verb::kInvalid);
  CHECK(!parse_arguments({}).help.empty());
}

TEST_CASE("template names are one plain path component") {
  for (const char* good : {"a", "9", "python-3.11_x", "A.b"}) {
    CHECK(cli::check_template_name(good).ok());
  }
  CHECK(cli::check_template_name(std::string(64, 'a')).ok());
  for (const char* bad :
       {"", ".", "..", ".hidden", "-x", "_x", "a/b", "a b", "a\n", "../x", "\xc3\xa9"}) {
    CHECK(cli::check_template_name(bad).code() == absl::StatusCode::kInvalidArgument);
  }
  CHECK(!cli::check_template_name(std::string(65, 'a')).ok());
  CHECK(!cli::check_template_name(std::string("a\0b", 3)).ok());
}

TEST_CASE("the directory of templates is the first of --dir and three variables that is set") {
  std::map<std::string, std::string> all = {
      {"RAMET_TEMPLATES", "/r"}, {"XDG_DATA_HOME", "/x"}, {"HOME", "/h"}};
  CHECK(*cli::templates_directory("/d/", environment(all)) == "/d");
  CHECK(*cli::templates_directory("", environment(all)) == "/r");
  all["RAMET_TEMPLATES"] = "";
  CHECK(*cli::templates_directory("", environment(all)) == "/x/ramet/templates");
  all["XDG_DATA_HOME"] = "relative";
  CHECK(*cli::templates_directory("", environment(all)) == "/h/.local/share/ramet/templates");
  CHECK(cli::templates_directory("", environment({})).status().code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a template with a slash is a directory, else a checked name in the directory") {
  const auto named = cli::resolve_template("py", "/d", environment({}));
  CHECK(named->directory == "/d/py");
  CHECK(!named->by_path);
  const auto path = cli::resolve_template("/a/../b/py/", "/d", environment({}));
  CHECK(path->directory == "/a/../b/py");
  CHECK(path->by_path);
  CHECK(cli::resolve_template("./py", "/d", environment({}))->directory ==
        std::filesystem::current_path() / "./py");
  CHECK(!cli::resolve_template("..", "/d", environment({})).ok());
}

TEST_CASE("a template that is not there is an error that says where it was looked for") {
  const auto named = cli::resolve_template("py", "/nonexistent", environment({}));
  const absl::Status by_name = cli::check_exists(*named);
  CHECK(by_name.code() == absl::StatusCode::kNotFound);
  CHECK(by_name.message() ==
        "there is no template \"py\" in /nonexistent (`ramet template ls` lists them)");
  const auto path = cli::resolve_template("/nonexistent/py", "", environment({}));
  CHECK(cli::check_exists(*path).message() == "there is no directory /nonexistent/py");
  CHECK(cli::check_exists(*cli::resolve_template("/", "", environment({}))).ok());
}

TEST_CASE("exit codes are the command's, 128 + signal, or 124 for a timeout") {
  CHECK(cli::exit_code_of({.exit_code = 0}) == 0);
  CHECK(cli::exit_code_of({.exit_code = 3}) == 3);
  CHECK(cli::exit_code_of({.exit_code = 127}) == 127);
  CHECK(cli::exit_code_of({.exit_code = 139, .signal = 11}) == 139);
  CHECK(cli::exit_code_of({.exit_code = 0, .signal = 9}) == 137);
  CHECK(cli::exit_code_of({.exit_code = 137, .signal = 9, .timed_out = true}) == 124);
  CHECK(cli::exit_code_of({.exit_code = 137,
                           .signal = 9,
                           .limit_hit = sandbox::LimitHit{sandbox::Limit::kOutput, 1, 2}}) == 124);
  CHECK(cli::exit_code_of_signal(2) == 130);
}

TEST_CASE("the guest's environment is overridden by what is given, of several mentions the last") {
  const auto host = environment({{"TOKEN", "t=1"}, {"EMPTY", ""}});
  const auto out = cli::guest_environment(
      {"PATH=/bin", "HOME=/root"}, {"A=1", "HOME=/h", "TOKEN", "EMPTY", "GONE", "A=2", "B="}, host);
  CHECK(out == Words{"PATH=/bin", "HOME=/h", "A=2", "TOKEN=t=1", "EMPTY=", "B="});
}
