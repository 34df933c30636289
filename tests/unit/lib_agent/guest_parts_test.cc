#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include <catch2/catch.hpp>

#include "lib/agent/embedded.h"
#include "lib/agent/guest/accounts.h"
#include "lib/agent/guest/files.h"
#include "lib/agent/guest/processes.h"
#include "lib/agent/guest/spawn.h"
#include "vmm/base/unique_fd.h"

namespace guest = ramet::guest;

TEST_CASE("find_account takes the first well-formed line of a name") {
  const std::string passwd =
      "root:x:0:0:root:/root:/bin/sh\n"
      "bad:x:12x:0::/:\n"
      "bad:x:4294967296:0::/:\n"
      "short:x\n"
      "me:x:1000:1001:Me:/home/me:/bin/sh\n"
      "me:x:7:7::/:\n"
      "last:x:4294967294:0";
  CHECK(guest::find_account(passwd, "me")->uid == 1000);
  CHECK(guest::find_account(passwd, "me")->gid == 1001);
  CHECK(guest::find_account(passwd, "last")->uid == 4294967294U);
  CHECK_FALSE(guest::find_account(passwd, "bad"));
  CHECK_FALSE(guest::find_account(passwd, "short"));
  CHECK_FALSE(guest::find_account(passwd, "nobody"));
  CHECK_FALSE(guest::find_account("", "root"));
}

TEST_CASE("find_groups gives the primary group and those that list the name") {
  const std::string group = "root:x:0:\nadm:x:4:syslog,me\nme:x:1001:me\nmean:x:9:meow\nbad:x:q:me";
  CHECK(guest::find_groups(group, "me", 1001) == std::vector<gid_t>{1001, 4});
  CHECK(guest::find_groups("", "me", 5) == std::vector<gid_t>{5});
}

TEST_CASE("parse_stat reads names with spaces and parentheses, and knows what lives") {
  const auto thread = guest::parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0\n");
  REQUIRE(thread);
  CHECK(thread->comm == "kthreadd");
  CHECK_FALSE(thread->lives());
  const auto odd = guest::parse_stat("77 (a) R 1 (b) S 1 77 77 0 -1 4194304 0 0\n");
  REQUIRE(odd);
  CHECK(odd->pid == 77);
  CHECK(odd->comm == "a) R 1 (b");
  CHECK(odd->lives());
  CHECK_FALSE(guest::parse_stat("78 (gone) Z 1 77 77 0 -1 4194304 0\n")->lives());
  for (const char* bad : {"", "x (a) S 1 1 1 0 -1 0 0", "7 a S", "7 (a) S 1 1",
                          "7 (a) SS 1 1 1 0 -1 0 ", ") (", "1 () "}) {
    CHECK_FALSE(guest::parse_stat(bad));
  }
}

TEST_CASE("live_processes of this host holds this process unless it is left out") {
  const auto self = static_cast<uint32_t>(::getpid());
  const auto holds = [](const auto& list, uint32_t pid) {
    return std::ranges::any_of(list, [pid](const auto& each) { return each.pid == pid; });
  };
  const auto all = guest::live_processes("/proc", 0);
  const auto others = guest::live_processes("/proc", self);
  REQUIRE((all && others));
  CHECK(holds(*all, self));
  CHECK_FALSE(holds(*others, self));
  CHECK_FALSE(guest::live_processes("/no/such/folder", 0));
}

TEST_CASE("command_candidates follows PATH, its absence, and its empty entries") {
  using List = std::vector<std::string>;
  CHECK(guest::command_candidates("/bin/x", {}) == List{"/bin/x"});
  CHECK(guest::command_candidates("./x", {"PATH=/a"}) == List{"./x"});
  CHECK(guest::command_candidates("x", {"A=b", "PATH=/a::/b"}) == List{"/a/x", "./x", "/b/x"});
  CHECK(guest::command_candidates("x", {}).front() == "/usr/local/sbin/x");
}

TEST_CASE("the embedded agent is a static x86-64 program below 1.5 MB that refuses to be no init") {
  const auto binary = ramet::agent_binary();
  REQUIRE(binary.size() > 64);
  CHECK(binary.size() < 1'500'000);
  CHECK(std::to_integer<char>(binary[1]) == 'E');
  CHECK(binary[18] == std::byte{62});  // e_machine: EM_X86_64
}

TEST_CASE("a file that is rewritten has the new content alone, shorter or longer") {
  const std::string path = "/tmp/ramet-rewrite-" + std::to_string(::getpid());
  const ramet::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  REQUIRE(fd.valid());
  for (const char* content : {"0123456789", "abc", "", "longer than before"}) {
    CHECK(guest::rewrite(fd.get(), content));
    CHECK(guest::read_file(path) == content);
  }
  ::unlink(path.c_str());
  CHECK_FALSE(guest::rewrite(-1, "x"));
}
