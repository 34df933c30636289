// `ramet` as its users meet it: real templates of a Debian guest, built once for all tests here.
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/system/cli/program.h"

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ramet::testing::Ended;
using ramet::testing::entries;
using ramet::testing::Program;
using ramet::testing::run_ramet;
using ramet::testing::TempDir;
using Words = std::vector<std::string>;

namespace {

std::string rootfs() { return ramet::testing::deps_dir() + "/rootfs/python.img"; }

Words build_words(const std::string& name) {
  return {"template",
          "build",
          name,
          "--rootfs",
          rootfs(),
          "--kernel-tree",
          ramet::testing::kernel_dir("cloud-6.12"),
          "--memory",
          "192M",
          "--scratch",
          "64M",
          "--boot-timeout",
          "300s"};
}

// The template "py" in a folder of its own, built by the first test that asks.
struct Shared {
  TempDir folder;
  std::string missing;  // why there is none
  Ended build;
};

Shared& shared() {
  static Shared one;
  static const bool once = [] {
    if (ramet::testing::kvm_kind() != ramet::testing::KvmKind::kHardware) {
      one.missing = "no hardware KVM";
    } else if (!fs::exists(rootfs()) || !fs::exists(ramet::testing::kernel_dir("cloud-6.12"))) {
      one.missing = "no kernel or no root file system: tests/support/fetch-kernels, make-rootfs";
    } else {
      Words words = build_words("py");
      words.insert(words.end(), {"--json", "--warmup", "python3 -c 'import json'"});
      one.build = run_ramet(one.folder.path(), words);
    }
    return true;
  }();
  static_cast<void>(once);
  return one;
}

Ended run(const Words& words, const std::string& input = "") {
  return run_ramet(shared().folder.path(), words, input);
}

}  // namespace

#define NEEDS_TEMPLATE()           \
  if (!shared().missing.empty()) { \
    RAMET_SKIP(shared().missing);  \
  }                                \
  INFO(shared().build.err);        \
  INFO(shared().build.out);        \
  REQUIRE(shared().build.code == 0)

TEST_CASE("template build --json prints one document with the template and its steps") {
  NEEDS_TEMPLATE();
  const Json out = Json::parse(shared().build.out);
  CHECK(out["template"]["name"] == "py");
  CHECK(out["template"]["memory_bytes"] == 192 << 20);
  CHECK(out["template"]["stored_memory_bytes"] > 0);
  CHECK(out["steps"].size() >= 2);
  CHECK(entries(shared().folder.path()) == 1);
}

TEST_CASE("template ls shows the template, and a damaged one as damaged") {
  NEEDS_TEMPLATE();
  fs::create_directory(shared().folder / "broken");
  const Ended text = run({"template", "ls"});
  const Json json = Json::parse(run({"template", "ls", "--json"}).out);
  CHECK(run({"template", "rm", "broken"}).code == 0);
  CHECK(text.code == 0);
  CHECK(text.out.find("py ") != std::string::npos);
  CHECK(text.out.find("192 MiB") != std::string::npos);
  CHECK(text.out.find("broken") != std::string::npos);
  REQUIRE(json["templates"].size() == 2);
  CHECK(json["templates"][0].contains("damaged"));
  CHECK(json["templates"][1]["name"] == "py");
  CHECK(entries(shared().folder.path()) == 1);
}

TEST_CASE("run streams both outputs and ends with the command's exit code") {
  NEEDS_TEMPLATE();
  const Ended ended = run({"run", "py", "--", "sh", "-c", "echo out; echo err >&2; exit 3"});
  CHECK(ended.code == 3);
  CHECK(ended.out == "out\n");
  CHECK(ended.err == "err\n");
}

TEST_CASE("run ends with 127, 126, 128 + signal and 124 as shells and timeout(1) do") {
  NEEDS_TEMPLATE();
  CHECK(run({"run", "py", "--", "no-such-command"}).code == 127);
  CHECK(run({"run", "py", "--", "/etc/passwd"}).code == 126);
  CHECK(run({"run", "py", "--", "sh", "-c", "kill -SEGV $$"}).code == 139);
  CHECK(run({"run", "py", "--timeout", "500ms", "--", "sleep", "600"}).code == 124);
}

TEST_CASE("run ends with 124 at a --limit, and says which with its figures") {
  NEEDS_TEMPLATE();
  const Ended output = run({"run", "py", "--limit", "output=10K", "--", "yes"});
  CHECK(output.code == 124);
  CHECK(output.out.size() == 10'240);
  CHECK(output.err.find("output of one command: 10 KiB allowed") != std::string::npos);
  const Ended wall = run({"run", "py", "--limit", "wall=15s", "--", "sleep", "600"});
  CHECK(wall.code == 124);
  CHECK(wall.err.find("wall clock: 15 s allowed") != std::string::npos);
  const Ended json = run({"run", "--json", "py", "--limit", "disk=1M", "--", "sh", "-c",
                          "dd if=/dev/urandom of=/f bs=65536 count=100; sync; sleep 600"});
  CHECK(json.code == 124);
  const Json error = Json::parse(json.out)["error"];
  CHECK(error["reason"] == "limit_reached");
  CHECK(error["limit"]["which"] == "disk");
  CHECK(error["limit"]["allowed"] == 1 << 20);
  CHECK(error["limit"]["used"] > 1 << 20);
  CHECK(run({"run", "py", "--limit", "memory", "--", "true"}).code == 125);
}

TEST_CASE("run --isolate streams both ways through a process of the sandbox's own") {
  NEEDS_TEMPLATE();
  const std::string much(1'000'000, 'x');
  const Ended ended = run({"run", "py", "--isolate", "--", "cat"}, much);
  CHECK(ended.code == 0);
  CHECK(ended.out == much);
  CHECK(run({"run", "py", "--isolate", "--", "sh", "-c", "echo err >&2; exit 3"}).code == 3);
}

TEST_CASE("run passes on standard input, whole, and the command sees its end") {
  NEEDS_TEMPLATE();
  CHECK(run({"run", "py", "--", "python3", "-"}, "print(6 * 7)\n").out == "42\n");
  const std::string much(1'000'000, 'x');
  const Ended ended = run({"run", "py", "--", "cat"}, much);
  CHECK(ended.code == 0);
  CHECK(ended.out == much);
}

TEST_CASE("run sets environment, working directory, user and host name") {
  NEEDS_TEMPLATE();
  const Ended ended =
      run({"run", "py", "--env", "A=b c", "--cwd", "/tmp", "--user", "65534:65534", "--hostname",
           "box", "--", "sh", "-c", "echo $A; pwd; id -u; hostname; echo $PATH"});
  CHECK(ended.out ==
        "b c\n/tmp\n65534\nbox\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
}

TEST_CASE("run --json is one document with outputs, clocks and metrics") {
  NEEDS_TEMPLATE();
  const Ended ended =
      run({"run", "--json", "py", "--", "sh", "-c", "printf '\\377'; echo e >&2; exit 4"});
  CHECK(ended.code == 4);
  const Json out = Json::parse(ended.out);
  CHECK(out["exit_code"] == 4);
  CHECK(out["stdout_base64"] == "/w==");
  CHECK(out["stderr"] == "e\n");
  for (const char* clock : {"shell_ready_ns", "first_guest_instruction_ns", "first_agent_reply_ns",
                            "exec_done_ns", "teardown_done_ns"}) {
    INFO(clock);
    CHECK(out["clocks"][clock].is_number());
  }
}

TEST_CASE("run --clocks prints the five clocks on standard error") {
  NEEDS_TEMPLATE();
  const Ended ended = run({"run", "py", "--clocks", "--", "true"});
  CHECK(ended.code == 0);
  CHECK(ended.out.empty());
  CHECK(ended.err.find("first agent reply") != std::string::npos);
  CHECK(ended.err.find("n/a") == std::string::npos);
}

TEST_CASE("what a run writes is gone in the next one") {
  NEEDS_TEMPLATE();
  CHECK(run({"run", "py", "--", "sh", "-c", "echo x >/root/mark; cat /root/mark"}).out == "x\n");
  CHECK(run({"run", "py", "--", "test", "-e", "/root/mark"}).code == 1);
}

TEST_CASE("Ctrl-C during run kills the sandbox and ends with 130, SIGTERM with 143") {
  NEEDS_TEMPLATE();
  for (const int number : {SIGINT, SIGTERM}) {
    Program program(shared().folder.path(),
                    {"run", "py", "--", "sh", "-c", "echo begun; sleep 600"});
    REQUIRE(program.wait_for_output("begun", 60));
    program.signal(number);
    CHECK(program.wait().code == 128 + number);
  }
}

TEST_CASE("Ctrl-C during template build ends with 130 and leaves nothing behind") {
  NEEDS_TEMPLATE();
  const TempDir folder;
  Program program(folder.path(), build_words("other"));
  // Not before the first step: the signal is to hit the boot.
  REQUIRE(program.wait_for_output("[1/", 60));
  program.signal(SIGINT);
  const Ended ended = program.wait();
  CHECK(ended.code == 130);
  CHECK(ended.err.find("nothing was left behind") != std::string::npos);
  CHECK(entries(folder.path()) == 0);
}

TEST_CASE("a name that is taken costs no boot and changes nothing") {
  NEEDS_TEMPLATE();
  Words words = build_words("py");
  words.push_back("--json");
  const Ended ended = run(words);
  // No step began.
  CHECK(ended.err.find("[1/") == std::string::npos);
  CHECK(ended.code == 1);
  CHECK(Json::parse(ended.out)["error"]["code"] == "ALREADY_EXISTS");
  CHECK(run({"run", "py", "--", "true"}).code == 0);
}

TEST_CASE("a build that fails says why and leaves nothing behind") {
  NEEDS_TEMPLATE();
  const TempDir folder;
  const fs::path image = folder / "no-image";
  std::ofstream(image) << "this is no file system";
  const fs::path templates = folder / "templates";
  const Ended ended = run_ramet(templates, {"template", "build", "x", "--rootfs", image.string(),
                                            "--kernel", image.string(), "--json"});
  CHECK(ended.code == 1);
  const Json error = Json::parse(ended.out)["error"];
  CHECK((error["reason"] == "bad_kernel" || error["reason"] == "bad_image"));
  CHECK(entries(templates) == 0);
}

TEST_CASE("a template that is missing or a path out of the folder is an error of our own, 125") {
  const TempDir folder;
  const Ended missing = run_ramet(folder.path(), {"run", "nothing", "--json", "--", "true"});
  CHECK(missing.code == 125);
  CHECK(Json::parse(missing.out)["error"]["message"].get<std::string>().find("nothing") !=
        std::string::npos);
  CHECK(run_ramet(folder.path(), {"run", "..", "--", "true"}).code == 125);
  CHECK(run_ramet(folder.path(), {"run", "py"}).code == 125);
  CHECK(run_ramet(folder.path(), {"template", "rm", "..", "--json"}).code == 1);
  CHECK(run_ramet(folder.path(), {"template", "rm", folder.path() + "/"}).code == 1);
  CHECK(fs::exists(folder.path()));
}

TEST_CASE("doctor ends with 0 exactly where Linux guests run, and its JSON says the same") {
  const TempDir folder;
  const Ended ended = run_ramet(folder.path(), {"doctor", "--json"});
  const Json report = Json::parse(ended.out);
  CHECK(report["usable"] == (ended.code == 0));
  const bool hardware = ramet::testing::kvm_kind() == ramet::testing::KvmKind::kHardware;
  CHECK((report["kvm"] == "hardware") == hardware);
  CHECK(run_ramet(folder.path(), {"doctor"}).out.find(hardware ? "usable" : "NOT usable") !=
        std::string::npos);
}

TEST_CASE("a host without the KVM device gets an error with a reason and advice") {
  const TempDir folder;
  const Ended ended = run_ramet(folder.path(), {"doctor", "--kvm", "/nonexistent", "--json"});
  CHECK(ended.code == 1);
  CHECK(Json::parse(ended.out)["kvm"] == "none");
}

TEST_CASE("template rm removes the template and nothing else") {
  NEEDS_TEMPLATE();
  // The last test of this program that needs the template; it copies it first.
  const TempDir folder;
  fs::copy(shared().folder / "py", folder / "copy", fs::copy_options::recursive);
  CHECK(run_ramet(folder.path(), {"run", "copy", "--", "true"}).code == 0);
  CHECK(run_ramet(folder.path(), {"template", "rm", "copy"}).code == 0);
  CHECK(entries(folder.path()) == 0);
  CHECK(run_ramet(folder.path(), {"template", "rm", "copy"}).code == 1);
  CHECK(fs::exists(rootfs()));
}
