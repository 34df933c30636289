// ramet-agent: process 1 of every Ramet guest. Boots the guest's user space, then serves the host
// over vsock until the machine ends.
#include <fcntl.h>
#include <signal.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "lib/agent/guest/boot.h"
#include "lib/agent/guest/linux_machine.h"
#include "lib/agent/guest/log.h"
#include "lib/agent/guest/server.h"
#include "lib/agent/guest/vsock.h"
#include "lib/agent/wire.h"
#include "vmm/base/unique_fd.h"

namespace ramet::guest {
namespace {

// As init there is nobody to report to but the console, and an exit would be a kernel panic.
[[noreturn]] void give_up(const std::string& why) {
  const std::string line = "ramet-agent: fatal: " + why + "; powering off\n";
  (void)!::write(STDERR_FILENO, line.data(), line.size());
  ::sync();
  ::reboot(RB_POWER_OFF);
  while (true) {
    ::pause();
  }
}

// A kernel without a console gives init no descriptors; a pipe must not become one of these.
void open_standard_streams() {
  int fd = ::open("/dev/console", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO) {
    fd = ::dup(fd);
  }
  if (fd >= 0) {  // else every command would have it
    ::close(fd);
  }
}

UniqueFd listen_for_host() {
  UniqueFd fd = vsock_listen(wire::kAgentPort);
  if (!fd.valid()) {
    give_up(errno_text("listen on vsock port " + std::to_string(wire::kAgentPort), errno));
  }
  return fd;
}

wire::Hello make_hello() {
  utsname names = {};
  ::uname(&names);
  return {wire::kProtocolVersion, std::string(names.release).substr(0, wire::kMaxReleaseBytes),
          RAMET_AGENT_BUILD_ID};
}

// The host may not be listening, and then finds us by connecting: no failure.
void announce(const wire::Hello& hello) {
  const UniqueFd fd = vsock_connect_host(wire::kReadyPort);
  const auto frame = wire::encode(hello);
  if (!fd.valid() || !frame.ok() ||
      ::send(fd.get(), frame.value().data(), frame.value().size(), MSG_NOSIGNAL) < 0) {
    log(errno_text("announce to the host", errno));
  }
}

[[noreturn]] void run() {
  open_standard_streams();
  ::signal(SIGPIPE, SIG_IGN);
  if (const std::string trouble = boot(); !trouble.empty()) {
    give_up(trouble);
  }
  LinuxMachine machine;
  machine.prepare_identity();
  UniqueFd listener = listen_for_host();
  const wire::Hello hello = make_hello();
  announce(hello);
  log_note("ready, " + hello.build_id + " on " + hello.kernel_release);
  Server server(machine, {"/etc", kCgroupParent, hello});
  give_up(server.run(std::move(listener)));
}

}  // namespace
}  // namespace ramet::guest

int main() {
  if (::getpid() != 1) {
    constexpr char kText[] =
        "ramet-agent is the init of a Ramet guest and does nothing elsewhere\n";
    (void)!::write(STDERR_FILENO, kText, sizeof(kText) - 1);
    return 1;
  }
  ramet::guest::run();
}
