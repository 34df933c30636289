#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/skip.h"
#include "tests/unit/lib_agent/guest_under_test.h"

using ramet::AgentClient;
using ramet::ExecOutcome;
using ramet::ExecSpec;
using ramet::IoResult;
using ramet::test::GuestUnderTest;
using ramet::test::in_seconds;
using Kind = ExecOutcome::Kind;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

ExecSpec spec_of(std::vector<std::string> argv) {
  ExecSpec spec;
  spec.argv = std::move(argv);
  spec.env = {"PATH=/usr/bin:/bin"};
  spec.timeout_ns = 20 * kSecond;
  return spec;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

bool process_lives(int pid) { return ::kill(pid, 0) == 0; }

// True once `pid` is gone, asked for a while.
bool dies(int pid) {
  for (int i = 0; i < 2000 && process_lives(pid); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return !process_lives(pid);
}

std::string temporary_name(const char* suffix) {
  return "/tmp/ramet-agent-test-" + std::to_string(::getpid()) + suffix;
}

int wait_for_pid_file(const std::string& path) {
  for (int i = 0; i < 2000; ++i) {
    const auto text = ramet::guest::read_file(path);
    if (text && text->ends_with('\n')) {
      return std::stoi(*text);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return -1;
}

// From now on this system call fails with ENOSYS.
void without(uint32_t number) {
  std::array<sock_filter, 4> code = {
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
       BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  const sock_fprog program = {code.size(), code.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    ::_exit(1);
  }
}

// fork() is clone(): a process can only be made in its group.
void without_fork() { without(SYS_clone); }
// As before Linux 5.3: it can only be moved there.
void without_clone3() { without(SYS_clone3); }

}  // namespace

TEST_CASE("exec returns exit codes, and output of both streams apart") {
  const GuestUnderTest guest;
  const auto outcome = guest.shell("echo out; echo err >&2; exit 42");
  REQUIRE(outcome.ok());
  CHECK(outcome->kind == Kind::kExited);
  CHECK(outcome->exit_code == 42);
  CHECK(outcome->stdout_data == "out\n");
  CHECK(outcome->stderr_data == "err\n");
  CHECK_FALSE(outcome->timed_out);
}

TEST_CASE("exec returns the signal that ended a command") {
  const GuestUnderTest guest;
  const auto outcome = guest.shell("kill -TERM $$");
  REQUIRE(outcome.ok());
  CHECK(outcome->kind == Kind::kSignalled);
  CHECK(outcome->signal == SIGTERM);
}

TEST_CASE("a command that does not exist gives 127 and one that is not executable 126") {
  const GuestUnderTest guest;
  const auto missing = guest.run(spec_of({"no-such-command"}));
  REQUIRE(missing.ok());
  CHECK(missing->exit_code == 127);
  CHECK(missing->stderr_data == "ramet-agent: no-such-command: command not found\n");
  const auto path = guest.run(spec_of({"/no/such/command"}));
  REQUIRE(path.ok());
  CHECK(path->exit_code == 127);
  CHECK(path->stderr_data.find("No such file") != std::string::npos);
  const auto folder = guest.run(spec_of({"/etc"}));
  REQUIRE(folder.ok());
  CHECK(folder->exit_code == 126);
  const auto plain = guest.run(spec_of({"/etc/passwd"}));
  REQUIRE(plain.ok());
  CHECK(plain->exit_code == 126);
  CHECK(plain->stderr_data.find("Permission denied") != std::string::npos);
}

TEST_CASE("arguments, environment and working directory arrive as they were given") {
  const GuestUnderTest guest;
  ExecSpec spec = spec_of({"/bin/sh", "-c", "printf '%s|' \"$@\" \"$ONLY\" \"$HOME\" \"$PWD\"",
                           "sh", "a b", "", "c\nd"});
  spec.env = {"PATH=/usr/bin:/bin", "ONLY=x=y"};
  spec.cwd = "/usr";
  const auto outcome = guest.run(spec);
  REQUIRE(outcome.ok());
  CHECK(outcome->stdout_data == "a b||c\nd|x=y||/usr|");
}

TEST_CASE("a working directory or a user that does not exist is a Status that names it") {
  const GuestUnderTest guest;
  ExecSpec spec = spec_of({"true"});
  spec.cwd = "/no/such/folder";
  const auto no_folder = guest.run(spec);
  CHECK(no_folder.status().code() == absl::StatusCode::kNotFound);
  CHECK(std::string(no_folder.status().message()).find("working directory") != std::string::npos);
  spec.cwd = "";
  spec.user = {ramet::wire::User::Kind::kName, 0, 0, "no-such-user"};
  const auto no_user = guest.run(spec);
  CHECK(no_user.status().code() == absl::StatusCode::kNotFound);
  CHECK(std::string(no_user.status().message()).find("no-such-user") != std::string::npos);
}

TEST_CASE("a command runs as the ids or the name asked for, with that user's groups") {
  if (::geteuid() != 0) {
    RAMET_SKIP("only root can change users");
  }
  const std::string etc = temporary_name("-etc");
  ::mkdir(etc.c_str(), 0755);
  REQUIRE(ramet::guest::write_file(etc + "/passwd", "worker:x:1234:1235::/:/bin/sh\n"));
  REQUIRE(ramet::guest::write_file(etc + "/group", "a:x:1235:\nb:x:77:worker\n"));
  const GuestUnderTest guest(etc);
  ExecSpec spec = spec_of({"/bin/sh", "-c", "id -u; id -g; id -G"});
  spec.user = {ramet::wire::User::Kind::kIds, 4321, 4322, ""};
  const auto by_ids = guest.run(spec);
  REQUIRE(by_ids.ok());
  CHECK(by_ids->stdout_data == "4321\n4322\n4322\n");
  spec.user = {ramet::wire::User::Kind::kName, 0, 0, "worker"};
  const auto by_name = guest.run(spec);
  REQUIRE(by_name.ok());
  CHECK(by_name->stdout_data == "1234\n1235\n1235 77\n");
  ::unlink((etc + "/passwd").c_str());
  ::unlink((etc + "/group").c_str());
  ::rmdir(etc.c_str());
}

TEST_CASE("input far beyond the window is echoed whole, and its end is seen") {
  const GuestUnderTest guest;
  std::string input(3 * 1024 * 1024 + 17, '\0');
  for (size_t i = 0; i < input.size(); ++i) {
    input[i] = static_cast<char>(i * 31 >> 3);
  }
  ramet::SpanSource source(bytes_of(input));
  ExecSpec spec = spec_of({"cat"});
  spec.stdin_source = &source;
  const auto outcome = guest.run(spec);
  REQUIRE(outcome.ok());
  CHECK(outcome->exit_code == 0);
  CHECK(outcome->stdout_data == input);
}

TEST_CASE("without a source a command reads the end at once") {
  const GuestUnderTest guest;
  const auto outcome = guest.run(spec_of({"cat"}));
  REQUIRE(outcome.ok());
  CHECK(outcome->exit_code == 0);
  CHECK(outcome->stdout_data.empty());
}

TEST_CASE("a command that closes its input ends although much of it was not taken") {
  const GuestUnderTest guest;
  const std::string input(4 * 1024 * 1024, 'x');
  ramet::SpanSource source(bytes_of(input));
  ExecSpec spec = spec_of({"/bin/sh", "-c", "head -c 10; exec <&-; sleep 0.1; echo done"});
  spec.stdin_source = &source;
  const auto outcome = guest.run(spec);
  REQUIRE(outcome.ok());
  CHECK(outcome->exit_code == 0);
  CHECK(outcome->stdout_data == "xxxxxxxxxxdone\n");
}

TEST_CASE("a source that has nothing yet is asked again after wake(), while output flows") {
  class LateSource final : public ramet::StdinSource {
   public:
    ramet::StatusOr<IoResult> try_read(std::span<std::byte> into) override {
      if (!ready) {
        return IoResult::would_block();
      }
      if (given) {
        return IoResult::end();
      }
      given = true;
      into[0] = std::byte{'!'};
      return IoResult::moved(1);
    }
    std::atomic<bool> ready = false;
    bool given = false;
  };
  const GuestUnderTest guest;
  LateSource source;
  AgentClient client = guest.client();
  ExecSpec spec = spec_of({"/bin/sh", "-c", "echo first; cat"});
  spec.stdin_source = &source;
  std::string seen;
  std::thread later;
  spec.stdout_sink = [&](std::span<const std::byte> data) {
    for (const std::byte byte : data) {
      seen += static_cast<char>(byte);
    }
    if (seen == "first\n") {
      later = std::thread([&] {
        source.ready = true;
        client.wake();
      });
    }
    return ramet::Status();
  };
  const auto outcome = client.exec(spec);
  later.join();
  REQUIRE(outcome.ok());
  CHECK(seen == "first\n!");
}

TEST_CASE("a slow reader gets a big output whole") {
  const GuestUnderTest guest;
  ExecSpec spec = spec_of({"/bin/sh", "-c", "yes 0123456789abcde | head -c 20000000"});
  size_t total = 0;
  int calls = 0;
  spec.stdout_sink = [&](std::span<const std::byte> data) {
    total += data.size();
    if (++calls < 50) {
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    return ramet::Status();
  };
  const auto outcome = guest.run(spec);
  REQUIRE(outcome.ok());
  CHECK(total == 20'000'000);
  CHECK(outcome->stdout_data.empty());
}

TEST_CASE("captured output beyond the limit is dropped and reported, and the command runs on") {
  const GuestUnderTest guest;
  ExecSpec spec = spec_of({"/bin/sh", "-c", "yes | head -c 1000000; echo end >&2; exit 3"});
  spec.capture_bytes = 100;
  const auto outcome = guest.run(spec);
  REQUIRE(outcome.ok());
  CHECK(outcome->exit_code == 3);
  CHECK(outcome->stdout_data.size() == 100);
  CHECK(outcome->stdout_truncated);
  CHECK(outcome->stderr_data == "end\n");
  CHECK_FALSE(outcome->stderr_truncated);
}

TEST_CASE("an error of a sink ends the exec with that error, and the command dies") {
  const GuestUnderTest guest;
  ramet::Status status;
  int pid = 0;
  {
    AgentClient client = guest.client();
    ExecSpec spec = spec_of({"/bin/sh", "-c", "echo $$; exec sleep 100"});
    spec.stdout_sink = [&](std::span<const std::byte> data) -> ramet::Status {
      pid = std::stoi(std::string(reinterpret_cast<const char*>(data.data()), data.size()));
      return absl::AbortedError("enough");
    };
    status = client.exec(spec).status();
    CHECK(client.exec(spec).status().code() == absl::StatusCode::kFailedPrecondition);
  }
  CHECK(status.code() == absl::StatusCode::kAborted);
  CHECK(dies(pid));
}

TEST_CASE("a timeout kills the whole process group and says timed_out") {
  const GuestUnderTest guest;
  const std::string file = temporary_name("-child");
  ::unlink(file.c_str());
  ExecSpec spec = spec_of({"/bin/sh", "-c", "sleep 100 & echo $! > " + file + "; wait"});
  spec.timeout_ns = kSecond / 2;
  const uint64_t start = ramet::monotonic_ns();
  const auto outcome = guest.run(spec);
  REQUIRE(outcome.ok());
  CHECK(outcome->timed_out);
  CHECK(outcome->kind == Kind::kSignalled);
  CHECK(outcome->signal == SIGKILL);
  CHECK(ramet::monotonic_ns() - start < 5 * kSecond);
  const int child = wait_for_pid_file(file);
  CHECK(dies(child));
  ::unlink(file.c_str());
}

TEST_CASE("a command begins in a group of its own, or is moved there by kernels that cannot") {
  for (void (*const kernel)() : {without_fork, without_clone3}) {
    const ramet::test::GroupParent parent;  // a killed agent leaves groups in it
    if (parent.path().empty()) {
      RAMET_SKIP("no cgroup2 that this user may use");
    }
    const GuestUnderTest guest("/etc", parent.path(), kernel);
    const auto found = guest.run(spec_of({"/bin/cat", "/proc/self/cgroup"}));
    REQUIRE(found.ok());
    const std::string folder = parent.path().substr(parent.path().rfind('/'));
    INFO(found->stdout_data << found->stderr_data);
    CHECK(found->stdout_data.find(folder + "/exec-1") != std::string::npos);
  }
}

TEST_CASE("with cgroup2 a timeout also kills a child that left the process group") {
  const ramet::test::GroupParent parent;
  if (parent.path().empty()) {
    RAMET_SKIP("no cgroup2 that this user may use");
  }
  const std::string file = temporary_name("-escaped");
  ::unlink(file.c_str());
  {
    const GuestUnderTest guest("/etc", parent.path());
    ExecSpec spec =
        spec_of({"/bin/sh", "-c", "setsid sh -c 'echo $$ > " + file + "; exec sleep 100' & wait"});
    spec.timeout_ns = kSecond / 2;
    const auto outcome = guest.run(spec);
    REQUIRE(outcome.ok());
    CHECK(outcome->timed_out);
    CHECK(dies(wait_for_pid_file(file)));
    const auto next = guest.shell("cat /proc/self/cgroup");
    REQUIRE(next.ok());
    CHECK(next->stdout_data.find("/exec-2") != std::string::npos);
  }
  ::unlink(file.c_str());
  CHECK(parent.remove());
}

TEST_CASE(
    "a command that ends while a grandchild holds its output is reported soon, output whole") {
  const GuestUnderTest guest;
  const uint64_t start = ramet::monotonic_ns();
  const auto outcome = guest.shell("sleep 3 & echo $!; exit 5");
  REQUIRE(outcome.ok());
  CHECK(outcome->exit_code == 5);
  CHECK(ramet::monotonic_ns() - start < 2 * kSecond);
  const int grandchild = std::stoi(outcome->stdout_data);
  CHECK(process_lives(grandchild));
  ::kill(grandchild, SIGKILL);
}

TEST_CASE("several commands run at once, each with its own output") {
  const GuestUnderTest guest;
  std::vector<std::thread> threads;
  std::vector<std::string> outputs(16);
  const uint64_t start = ramet::monotonic_ns();
  for (size_t i = 0; i < outputs.size(); ++i) {
    threads.emplace_back([&guest, &outputs, i] {
      const auto outcome = guest.shell("sleep 0.5; echo " + std::to_string(i));
      outputs[i] = outcome.ok() ? outcome->stdout_data : outcome.status().ToString();
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(ramet::monotonic_ns() - start < 5 * kSecond);
  for (size_t i = 0; i < outputs.size(); ++i) {
    CHECK(outputs[i] == std::to_string(i) + "\n");
  }
}

TEST_CASE("a closed connection kills its command, and no other") {
  const GuestUnderTest guest;
  const std::string file = temporary_name("-closed");
  ::unlink(file.c_str());
  ramet::StatusOr<ExecOutcome> other_outcome = absl::UnknownError("not run");
  std::thread other([&] { other_outcome = guest.shell("sleep 1; echo alive"); });
  {
    ramet::Conversation conversation(std::make_unique<ramet::test::FdStream>(guest.connect()));
    REQUIRE(conversation
                .queue(ramet::wire::ExecRequest{
                    {"/bin/sh", "-c", "echo $$ > " + file + "; exec sleep 100"},
                    {"PATH=/usr/bin:/bin"},
                    "",
                    {},
                    false,
                    0})
                .ok());
    REQUIRE(conversation.flush(in_seconds(5)).ok());
    const int pid = wait_for_pid_file(file);
    CHECK(process_lives(pid));
  }
  CHECK(dies(wait_for_pid_file(file)));
  ::unlink(file.c_str());
  other.join();
  REQUIRE(other_outcome.ok());
  CHECK(other_outcome->stdout_data == "alive\n");
}

TEST_CASE("a request over a limit is InvalidArgument, and the conversation can go on") {
  const GuestUnderTest guest;
  AgentClient client = guest.client();
  CHECK(client.exec(spec_of({})).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(client.exec(spec_of({"echo", std::string(ramet::wire::kMaxExecBytes, 'x')}))
            .status()
            .code() == absl::StatusCode::kInvalidArgument);
  const auto outcome = client.exec(spec_of({"echo", "fine"}));
  REQUIRE(outcome.ok());
  CHECK(outcome->stdout_data == "fine\n");
}

TEST_CASE("a command starts with default signals and a session of its own") {
  const GuestUnderTest guest;
  const auto outcome = guest.shell(
      "grep -E 'SigBlk|SigIgn' /proc/self/status | tr -d '\\n\\t'; "
      "test $(ps -o sid= -p $$) = $$ && echo leader");
  REQUIRE(outcome.ok());
  CHECK(outcome->stdout_data == "SigBlk:0000000000000000SigIgn:0000000000000000leader\n");
}
