// GuestUnderTest: the agent's server as an ordinary process of this host, behind a UNIX socket. The
// clock, name and random generator of the host are left alone.
#ifndef RAMET_TESTS_UNIT_LIB_AGENT_GUEST_UNDER_TEST_H_
#define RAMET_TESTS_UNIT_LIB_AGENT_GUEST_UNDER_TEST_H_

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/agent/client.h"
#include "lib/agent/guest/files.h"
#include "lib/agent/guest/server.h"
#include "tests/unit/lib_agent/fd_stream.h"

namespace ramet::test {

// Knows the agent's own children only; a reseed for the host name "refuse" fails.
class FakeMachine final : public guest::Machine {
 public:
  std::string reseed(const wire::Reseed& reseed) override {
    return reseed.hostname == "refuse" ? "told to refuse" : "";
  }
  std::optional<std::vector<wire::LiveProcess>> live_processes() override {
    const std::string self = std::to_string(::getpid());
    const auto children = guest::read_file("/proc/" + self + "/task/" + self + "/children");
    if (!children) {
      return std::nullopt;
    }
    std::vector<wire::LiveProcess> live;
    std::string_view rest = *children;
    while (!rest.empty()) {
      const std::string pid(guest::cut(rest, ' '));
      std::string comm = guest::read_file("/proc/" + pid + "/comm").value_or("?\n");
      comm.pop_back();
      live.push_back({static_cast<uint32_t>(std::stoul(pid)), comm});
    }
    return live;
  }
  void settle() override {}
  void power_off() override { ::_exit(0); }
};

class GuestUnderTest {
 public:
  // `first` is called in the agent's process before anything else.
  explicit GuestUnderTest(const std::string& etc = "/etc", const std::string& cgroup_parent = "",
                          void (*first)() = nullptr) {
    address_.sun_family = AF_UNIX;
    const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    // Only the family: the kernel chooses an abstract name (unix(7), autobind).
    REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(sa_family_t)) ==
            0);
    size_ = sizeof(address_);
    REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address_), &size_) == 0);
    REQUIRE(::listen(listener.get(), 64) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      if (first != nullptr) {
        first();
      }
      serve(listener.get(), etc, cgroup_parent);
    }
  }
  ~GuestUnderTest() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  // Called from threads too, so it asserts nothing: a stream over a bad socket fails its user.
  UniqueFd connect() const {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address_), size_) != 0) {
      fd.reset();
    }
    return fd;
  }
  AgentClient client() const { return AgentClient(std::make_unique<FdStream>(connect())); }
  StatusOr<ExecOutcome> run(const ExecSpec& spec) const { return client().exec(spec); }
  StatusOr<ExecOutcome> shell(const std::string& script) const {
    ExecSpec spec;
    spec.argv = {"/bin/sh", "-c", script};
    spec.env = {"PATH=/usr/bin:/bin"};
    spec.timeout_ns = 20'000'000'000;
    return run(spec);
  }
  pid_t pid() const { return pid_; }

 private:
  [[noreturn]] static void serve(int listener, const std::string& etc,
                                 const std::string& cgroup_parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    ::signal(SIGPIPE, SIG_IGN);
    FakeMachine machine;
    guest::Server server(machine,
                         {etc, cgroup_parent, {wire::kProtocolVersion, "6.x-test", "under-test"}});
    server.run(UniqueFd(listener));
    ::_exit(1);
  }

  sockaddr_un address_ = {};
  socklen_t size_ = 0;
  pid_t pid_ = -1;
};

// A folder of this host's cgroup2 for the control groups of commands; empty where there is none
// that this user may use.
class GroupParent {
 public:
  GroupParent() {
    const std::string mounts = guest::read_file("/proc/mounts").value_or("");
    for (std::string_view rest = mounts; !rest.empty();) {
      std::string_view line = guest::cut(rest, '\n');
      guest::cut(line, ' ');
      const std::string target(guest::cut(line, ' '));
      if (guest::cut(line, ' ') == "cgroup2") {
        path_ = target + "/ramet-agent-test-" + std::to_string(::getpid());
      }
    }
    if (!path_.empty() && ::mkdir(path_.c_str(), 0755) != 0) {
      path_.clear();
    }
  }
  ~GroupParent() {
    kill();
    for (int i = 0; i < 100 && !path_.empty() && !remove(); ++i) {
      ::usleep(10'000);
    }
  }
  GroupParent(const GroupParent&) = delete;
  GroupParent& operator=(const GroupParent&) = delete;

  const std::string& path() const { return path_; }
  void kill() const { (void)guest::write_file(path_ + "/cgroup.kill", "1"); }
  // True once nothing is left of it.
  bool remove() const {
    for (int i = 1; i < 100; ++i) {
      ::rmdir((path_ + "/exec-" + std::to_string(i)).c_str());
    }
    return ::rmdir(path_.c_str()) == 0;
  }

 private:
  std::string path_;
};

inline uint64_t in_seconds(uint64_t seconds) { return monotonic_ns() + seconds * 1'000'000'000; }

}  // namespace ramet::test

#endif  // RAMET_TESTS_UNIT_LIB_AGENT_GUEST_UNDER_TEST_H_
