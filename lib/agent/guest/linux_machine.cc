#include "lib/agent/guest/linux_machine.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "lib/agent/guest/files.h"
#include "lib/agent/guest/kernel.h"
#include "lib/agent/guest/log.h"
#include "lib/agent/guest/loop.h"
#include "lib/agent/guest/processes.h"
#include "lib/agent/guest/spawn.h"

namespace ramet::guest {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr char kBootIdInProc[] = "/proc/sys/kernel/random/boot_id";

std::string hexadecimal(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<size_t>(byte >> 4)];
    text += kDigits[std::to_integer<size_t>(byte & std::byte{15})];
  }
  return text;
}

// RFC 9562's text form of 32 hexadecimal digits.
std::string uuid(const std::string& digits) {
  return digits.substr(0, 8) + "-" + digits.substr(8, 4) + "-" + digits.substr(12, 4) + "-" +
         digits.substr(16, 4) + "-" + digits.substr(20);
}

void report(const char* what, const char* path) {
  const int error = errno;
  log(errno_text(std::string(what) + " " + path, error));
}

std::vector<std::string> hooks() {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(kHookFolder, error)) {
    if (::access(entry.path().c_str(), X_OK) == 0 && entry.is_regular_file(error)) {
      paths.push_back(entry.path().string());
    }
  }
  std::ranges::sort(paths);
  return paths;
}

// A hook that fails or hangs is logged, not fatal: the kernel is reseeded already. Only this child
// is waited for; others stay for the server.
void run_hook(const std::string& path, const std::string& generation) {
  const wire::ExecRequest request{
      {path, generation}, {std::string("PATH=") + kDefaultPath}, "", {}, false, 0};
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const pid_t pid =
      spawn({request, Credentials{}, null.get(), null.get(), null.get(), null.get(), -1});
  int status = 0;
  for (int waited_ms = 0; pid > 0 && ::waitpid(pid, &status, WNOHANG) == 0; ++waited_ms) {
    if (waited_ms == kHookTimeoutMs) {
      ::kill(-pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      break;
    }
    ::usleep(1000);
  }
  if (pid < 0 || status != 0) {
    log("reseed hook " + path + " failed, wait status " + std::to_string(status));
  }
}

// A new file of the state folder, and what it begins with.
UniqueFd make_file(const char* path, const std::string& content) {
  UniqueFd fd(::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!rewrite(fd.get(), content)) {
    report("write", path);
  }
  return fd;
}

void renew(const UniqueFd& fd, const char* path, const std::string& content) {
  if (!rewrite(fd.get(), content + "\n")) {
    report("write", path);
  }
}

void bind_over(const char* file, const char* target) {
  if (::mount(file, target, nullptr, MS_BIND, nullptr) != 0 && errno != ENOENT) {
    report("bind-mount over", target);
  }
}

}  // namespace

void LinuxMachine::prepare_identity() {
  ::mkdir(kStateFolder, 0755);
  machine_id_ = make_file(kMachineIdFile, read_file("/etc/machine-id").value_or(""));
  boot_id_ = make_file(kBootIdFile, read_file(kBootIdInProc).value_or(""));
  generation_ = make_file(kGenerationFile, std::string(2 * wire::kGenerationBytes, '0') + "\n");
  const UniqueFd target(::open("/etc/machine-id", O_RDONLY | O_CREAT | O_CLOEXEC, 0444));
  bind_over(kMachineIdFile, "/etc/machine-id");
  bind_over(kBootIdFile, kBootIdInProc);
}

void LinuxMachine::set_identity(const wire::Reseed& reseed, const std::string& generation) const {
  if (!reseed.hostname.empty() &&
      ::sethostname(reseed.hostname.c_str(), reseed.hostname.size()) != 0) {
    report("set the host name to", reseed.hostname.c_str());
  }
  if (!reseed.machine_id.empty()) {
    renew(machine_id_, kMachineIdFile, reseed.machine_id);
  }
  renew(generation_, kGenerationFile, generation);
  renew(boot_id_, kBootIdFile, uuid(generation));
}

std::string LinuxMachine::reseed(const wire::Reseed& reseed) {
  if (const int error = reseed_kernel(reseed.entropy); error != 0) {
    return errno_text("reseed the kernel's generator", error);
  }
  if (reseed.realtime_ns != 0) {
    timespec time = {};
    time.tv_sec = static_cast<time_t>(reseed.realtime_ns / kNsPerSecond);
    time.tv_nsec = static_cast<long>(reseed.realtime_ns % kNsPerSecond);
    if (::clock_settime(CLOCK_REALTIME, &time) != 0) {
      return errno_text("set the wall clock", errno);
    }
  }
  const std::string generation = hexadecimal(reseed.generation);
  set_identity(reseed, generation);
  for (const std::string& hook : hooks()) {
    run_hook(hook, generation);
  }
  return {};
}

std::optional<std::vector<wire::LiveProcess>> LinuxMachine::live_processes() {
  return guest::live_processes("/proc", static_cast<uint32_t>(::getpid()));
}

void LinuxMachine::settle() {
  // Dirty pages go to the scratch disk now: else each fork would write them again. The page cache
  // is kept: it is what the warm-up warmed.
  ::sync();
}

void LinuxMachine::power_off() {
  ::sync();
  ::reboot(RB_POWER_OFF);
}

}  // namespace ramet::guest
