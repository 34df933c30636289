#include "lib/agent/guest/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "vmm/base/unique_fd.h"

namespace ramet::guest {

namespace {

// printk's levels; "quiet" shows those below 4.
constexpr std::string_view kProblem = "<3>";
constexpr std::string_view kNote = "<6>";

void put(std::string_view level, std::string_view line) {
  // Only init writes to the kernel's log: under test the host's stays clean.
  const UniqueFd kmsg(::getpid() == 1 ? ::open("/dev/kmsg", O_WRONLY | O_CLOEXEC) : -1);
  std::string text(kmsg.valid() ? level : std::string_view());
  text.append("ramet-agent: ").append(line).push_back('\n');
  (void)!::write(kmsg.valid() ? kmsg.get() : STDERR_FILENO, text.data(), text.size());
}

}  // namespace

void log(std::string_view problem) { put(kProblem, problem); }

void log_note(std::string_view note) { put(kNote, note); }

std::string errno_text(std::string_view what, int error) {
  const char* description = ::strerrordesc_np(error);
  std::string text(what);
  text.append(": ").append(description != nullptr ? description : "unknown error");
  return text.append(" (errno ").append(std::to_string(error)).append(")");
}

}  // namespace ramet::guest
