// Branches of a busy Debian guest: processes with memory, timers and open files, commands in
// flight, a disk that is written; both sides go on from one moment, each alone.
#include <chrono>
#include <cstdio>
#include <future>
#include <set>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/system/sandbox/guest_template.h"

namespace {

using ramet::testing::settled_process;
using ramet::testing::shell;

// A process that a command leaves behind: 64 MiB that are all known, a file that it keeps open and
// adds to, and a timer that counts. USR1 has it say all of that; USR2 has it change its memory to
// what /run/mark says.
constexpr char kDaemon[] = R"(
import os, signal, time, zlib
size = 64 << 20
block = bytes(range(1, 256)) * 4096
memory = bytearray(size)
for at in range(0, size, len(block)):
    memory[at:at + len(block)] = block[:size - at]
log = open('/root/daemon.log', 'a')
ticks = 0
def tick(*_):
    global ticks
    ticks += 1
def say(*_):
    log.write('%d\n' % ticks)
    log.flush()
    with open('/run/daemon.new', 'w') as out:
        out.write('%08x %d %d' % (zlib.crc32(memory), ticks, len(open('/root/daemon.log').read().split())))
    os.rename('/run/daemon.new', '/run/daemon.says')
def change(*_):
    mark = open('/run/mark').read().encode()
    for place in range(0, size, 1 << 16):
        memory[place:place + len(mark)] = mark
    os.unlink('/run/mark')
signal.signal(signal.SIGALRM, tick)
signal.signal(signal.SIGUSR1, say)
signal.signal(signal.SIGUSR2, change)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
open('/run/daemon.pid', 'w').write(str(os.getpid()))
while True:
    signal.pause()
)";

// What it says, once it has.
constexpr char kAsk[] = R"(
import os, signal, time
try: os.unlink('/run/daemon.says')
except FileNotFoundError: pass
os.kill(int(open('/run/daemon.pid').read()), signal.SIGUSR1)
while not os.path.exists('/run/daemon.says'):
    time.sleep(0.01)
print(open('/run/daemon.says').read())
)";

constexpr char kChange[] = R"(
import os, signal, sys, time
open('/run/mark', 'w').write(sys.argv[1])
os.kill(int(open('/run/daemon.pid').read()), signal.SIGUSR2)
while os.path.exists('/run/mark'):
    time.sleep(0.01)
)";

// The checksum of memory that was changed so; the same without a guest.
constexpr char kExpect[] = R"(
import sys, zlib
size = 64 << 20
block = bytes(range(1, 256)) * 4096
memory = bytearray(size)
for at in range(0, size, len(block)):
    memory[at:at + len(block)] = block[:size - at]
for mark in sys.argv[1:]:
    for place in range(0, size, 1 << 16):
        memory[place:place + len(mark)] = mark.encode()
print('%08x' % zlib.crc32(memory))
)";

// 300 files in 20 folders, half of them on the disk already; and the checksum of all.
constexpr char kMakeTree[] = R"(
import os
for folder in range(20):
    os.makedirs('/root/tree/%d' % folder)
    for name in range(15):
        with open('/root/tree/%d/%d' % (folder, name), 'wb') as out:
            out.write(os.urandom(folder * 997 + name * 131))
    if folder == 10:
        os.sync()
)";
constexpr char kSumTree[] = R"(
import os, zlib
total = 0
for folder, folders, names in sorted(os.walk('/root/tree')):
    for name in sorted(names):
        path = os.path.join(folder, name)
        total = zlib.crc32(path.encode() + open(path, 'rb').read(), total)
print('%08x' % total)
)";

// What the kernel has said that it should not have to say.
constexpr char kComplaints[] = R"(
import os, re
log = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)
while True:
    try: line = os.read(log, 8192).decode(errors='replace')
    except BlockingIOError: break
    if re.search('I/O error|BUG|Oops|stall|lockup|EXT4-fs (error|warning)|segfault|unstable', line):
        print(line)
)";

constexpr char kIdentity[] =
    "cat /proc/sys/kernel/random/uuid; hostname; cat /etc/machine-id; head -c 16 /dev/urandom | "
    "od -An -tx1";

const absl::StatusOr<sandbox::Template>& two_vcpus() {
  static const absl::StatusOr<sandbox::Template> kTemplate = [] {
    sandbox::TemplateOptions options = ramet::testing::small_guest("cloud-6.12");
    options.vcpus = 2;
    options.memory_bytes = uint64_t{320} << 20;
    return sandbox::Template::build(options);
  }();
  return kTemplate;
}

std::string text_of(const absl::StatusOr<sandbox::ExecResult>& result) {
  std::string text = result.ok() ? result->stdout_data + result->stderr_data
                                 : std::string(result.status().ToString());
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

std::string output(sandbox::Sandbox& box, const std::string& script) {
  return text_of(shell(box, script));
}

std::string python(sandbox::Sandbox& box, const std::string& script,
                   const std::vector<std::string>& arguments = {}) {
  std::vector<std::string> argv = {"python3", "-c", script};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return text_of(box.exec(argv));
}

void start_daemon(sandbox::Sandbox& box) {
  const auto written =
      box.exec({"sh", "-c", "cat > /root/daemon.py"}, {.stdin_data = std::string(kDaemon)});
  RAMET_REQUIRE_OK(written);
  REQUIRE(output(box,
                 "(python3 /root/daemon.py >/root/daemon.err 2>&1 </dev/null &); "
                 "for i in $(seq 300); do [ -s /run/daemon.pid ] && break; sleep 0.1; done; "
                 "cat /root/daemon.err") == "");
}

struct Said {
  std::string checksum;
  long ticks = 0;
  long lines = 0;
};

Said ask(sandbox::Sandbox& box) {
  const std::string text = python(box, kAsk);
  Said said;
  std::array<char, 16> checksum = {};
  INFO(text);
  REQUIRE(std::sscanf(text.c_str(), "%15s %ld %ld", checksum.data(), &said.ticks, &said.lines) ==
          3);
  said.checksum = checksum.data();
  return said;
}

// Ends what keeps its processors busy, which was to be busy at the branch and only costs time now.
void calm_down(sandbox::Sandbox& box) {
  REQUIRE(output(box, "kill -9 $(cat /run/noise.pid /run/busy.pid 2>/dev/null)") == "");
}

void add_lines(std::string text, std::set<std::string>* lines) {
  text += '\n';
  for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
    lines->insert(text.substr(0, end));
  }
}

}  // namespace

TEST_CASE("processes, memory, timers, files and disk go on on both sides of a branch, apart") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(two_vcpus());
  auto parent = sandbox::fork(*two_vcpus());
  RAMET_REQUIRE_OK(parent);
  start_daemon(*parent);
  REQUIRE(python(*parent, kMakeTree) == "");
  const std::string tree = python(*parent, kSumTree);
  const std::string memory = python(*parent, kExpect);
  const Said before = ask(*parent);
  CHECK(before.checksum == memory);
  CHECK(before.lines == 1);
  // Busy on both, with the disk written, and a command in flight.
  REQUIRE(output(*parent,
                 "(sh -c 'echo $$ > /run/busy.pid; while :; do :; done' busy-loop "
                 ">/dev/null 2>&1 &); "
                 "(sh -c 'echo $$ > /run/noise.pid; while :; do dd if=/dev/urandom of=/root/noise "
                 "bs=64k count=16 conv=fsync 2>/dev/null; done' >/dev/null 2>&1 &); echo") == "");
  auto in_flight = std::async(std::launch::async, [&] {
    return output(*parent,
                  "echo begun; for i in 1 2 3 4 5 6; do sleep 1; done; echo in-flight-done");
  });
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const std::string complaints = python(*parent, kComplaints);  // of its boot
  auto branch = parent->snapshot();
  RAMET_REQUIRE_OK(branch);
  std::printf("pause %.3f ms\n",
              static_cast<double>(parent->metrics().snapshot_pause->count()) / 1e6);
  CHECK(in_flight.get() == "begun\nin-flight-done");
  calm_down(*parent);

  auto child = sandbox::fork(*branch);
  RAMET_REQUIRE_OK(child);
  const Said on = ask(*child);
  CHECK(on.checksum == memory);
  CHECK(on.ticks > before.ticks);
  CHECK(on.lines == 2);
  CHECK(output(*child, "readlink /proc/$(cat /run/daemon.pid)/fd/* | grep -c /root/daemon.log") ==
        "1");
  CHECK(python(*child, kSumTree) == tree);
  // Nobody waits for it here.
  CHECK(output(*child, "grep -la in-flight-[d]one /proc/[0-9]*/cmdline 2>/dev/null") == "");
  CHECK(output(*child, "grep -la busy-[l]oop /proc/[0-9]*/cmdline 2>/dev/null | wc -l") == "1");
  calm_down(*child);
  CHECK(python(*child, kComplaints) == complaints);
  CHECK(output(*child, "echo 'BUG: of this test' > /dev/kmsg") == "");
  CHECK(python(*child, kComplaints).find("of this test") != std::string::npos);

  REQUIRE(python(*parent, kChange, {"parent"}) == "");
  REQUIRE(python(*child, kChange, {"child"}) == "");
  CHECK(ask(*parent).checksum == python(*parent, kExpect, {"parent"}));
  CHECK(ask(*child).checksum == python(*child, kExpect, {"child"}));
  REQUIRE(output(*child, "rm -r /root/tree/3; echo new > /root/tree/new; sync") == "");
  CHECK(python(*parent, kSumTree) == tree);
  const std::string changed = python(*child, kSumTree);
  CHECK(changed != tree);

  std::set<std::string> identities;
  add_lines(output(*parent, kIdentity), &identities);
  add_lines(output(*child, kIdentity), &identities);
  auto other = sandbox::fork(*branch);
  RAMET_REQUIRE_OK(other);
  calm_down(*other);
  add_lines(output(*other, kIdentity), &identities);
  CHECK(identities.size() == 12);
  CHECK(ask(*other).checksum == memory);

  auto deeper = child->snapshot();
  RAMET_REQUIRE_OK(deeper);
  auto grandchild = sandbox::fork(*deeper);
  RAMET_REQUIRE_OK(grandchild);
  CHECK(ask(*grandchild).checksum == python(*grandchild, kExpect, {"child"}));
  CHECK(python(*grandchild, kSumTree) == changed);
}

TEST_CASE("branches under load, one after the other, are right on both sides, and leave nothing") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(two_vcpus());
  auto parent = sandbox::fork(*two_vcpus());
  RAMET_REQUIRE_OK(parent);
  start_daemon(*parent);
  REQUIRE(python(*parent, kMakeTree) == "");
  const std::string tree = python(*parent, kSumTree);
  const std::string memory = ask(*parent).checksum;
  REQUIRE(output(*parent,
                 "(sh -c 'echo $$ > /run/noise.pid; while :; do dd if=/dev/zero of=/root/noise "
                 "bs=64k count=8 conv=fsync 2>/dev/null; done' >/dev/null 2>&1 &); echo") == "");
  const int times = ramet::testing::long_run() ? 100 : 3;
  ramet::testing::ProcessCounts first;
  for (int i = 0; i < times; ++i) {
    {
      auto running = std::async(std::launch::async, [&] { return ask(*parent); });
      auto branch = parent->snapshot();
      RAMET_REQUIRE_OK(branch);
      CHECK(running.get().checksum == memory);
      auto child = sandbox::fork(*branch, {.shell = sandbox::ShellUse::kNone});
      RAMET_REQUIRE_OK(child);
      calm_down(*child);
      CHECK(ask(*child).checksum == memory);
      CHECK(python(*child, kSumTree) == tree);
    }
    // Each branch is a layer of its sandbox's disk.
    const auto layers = static_cast<size_t>(i);
    if (i == 0) {
      first = ramet::testing::quiet_process();
    } else {
      const auto now = settled_process({first.fds + layers, first.threads, 0});
      CHECK(now.fds <= first.fds + layers);
      CHECK(now.threads <= first.threads);
    }
  }
  CHECK(python(*parent, kSumTree) == tree);
}

TEST_CASE("a process that left its control group is named, and its sandbox goes on") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(ramet::testing::shared_template());
  auto box = sandbox::fork(*ramet::testing::shared_template());
  RAMET_REQUIRE_OK(box);
  REQUIRE(output(*box,
                 "(sh -c 'echo $$ > /sys/fs/cgroup/cgroup.procs; exec sleep 1234' "
                 ">/dev/null 2>&1 </dev/null &); sleep 0.5; echo") == "");
  const auto refused = box->snapshot();
  INFO(refused.status().ToString());
  CHECK(absl::IsFailedPrecondition(refused.status()));
  CHECK(sandbox::reason_of(refused.status()) == sandbox::Reason::kProcessesAlive);
  CHECK(refused.status().message().find("sleep") != absl::string_view::npos);
  CHECK(box->state() == sandbox::State::kRunning);
  REQUIRE(output(*box,
                 "kill $(cat /sys/fs/cgroup/cgroup.procs | while read p; do grep -qas 1234 "
                 "/proc/$p/cmdline && echo $p; done); sleep 0.2") == "");
  const auto branch = box->snapshot();
  RAMET_REQUIRE_OK(branch);
  CHECK(output(*box, "echo on") == "on");
  auto child = sandbox::fork(*branch);
  RAMET_REQUIRE_OK(child);
  CHECK(output(*child, "echo on") == "on");
}

TEST_CASE("a chain of branches of a Debian guest works to depth 8") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(ramet::testing::shared_template());
  sandbox::Template from = *ramet::testing::shared_template();
  for (int depth = 1; depth <= 8; ++depth) {
    auto box = sandbox::fork(from);
    RAMET_REQUIRE_OK(box);
    REQUIRE(output(*box, "echo " + std::to_string(depth) + " >> /root/depth; echo " +
                             std::to_string(depth) + " >> /dev/shm/depth") == "");
    auto next = box->snapshot();
    RAMET_REQUIRE_OK(next);
    from = *next;
  }
  auto last = sandbox::fork(from);
  RAMET_REQUIRE_OK(last);
  CHECK(output(*last, "cat /root/depth | tr -d '\\n'; cat /dev/shm/depth | tr -d '\\n'") ==
        "1234567812345678");
}

TEST_CASE(
    "a busy sandbox in a process of its own is branched there, again and again, and goes on") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(two_vcpus());
  const sandbox::ForkOptions apart = {.isolation = sandbox::Isolation::kProcess};
  auto parent = sandbox::fork(*two_vcpus(), apart);
  RAMET_REQUIRE_OK(parent);
  start_daemon(*parent);
  REQUIRE(python(*parent, kMakeTree) == "");
  const std::string tree = python(*parent, kSumTree);
  const std::string memory = ask(*parent).checksum;
  for (int i = 0; i < 2; ++i) {
    auto running = std::async(std::launch::async, [&] { return ask(*parent); });
    auto branch = parent->snapshot();
    RAMET_REQUIRE_OK(branch);
    CHECK(running.get().checksum == memory);
    CHECK(parent->metrics().snapshot_pause);
    auto child = sandbox::fork(*branch, apart);
    RAMET_REQUIRE_OK(child);
    CHECK(ask(*child).checksum == memory);
    CHECK(python(*child, kSumTree) == tree);
    CHECK(output(*child, "echo in the child > /root/own; cat /root/own") == "in the child");
    CHECK(
        output(*parent, "ls /root/own 2>&1 >/dev/null || echo none | tail -n 1").ends_with("none"));
  }
}
